"""Two processes of four devices each on loopback give what one process gives."""

import csv
import json
import shutil
import socket
import subprocess
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest

from ctrak_jax.store import read_manifest, read_scores
from tests.command import command, ctrak, environment
from tests.test_run import CONFIG, METHODS, features

SECONDS = 500


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def two_processes(*args: str | Path) -> list[subprocess.Popen[str]]:
    """The same command in two processes that find each other on loopback."""
    where = ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", "2"]
    return [
        subprocess.Popen(
            command(*args, *where, "--process", str(process)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(4),
        )
        for process in range(2)
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    """The same run by one process of one device, and by two of four; one model."""
    folder = tmp_path_factory.mktemp("hosts")
    (folder / "small.yaml").write_text(CONFIG)
    alone, both = folder / "alone", folder / "both"
    done = ctrak("run", folder / "small.yaml", "--out", alone)
    assert done.returncode == 0, done.stderr
    for name in ("model", ".stages", "queries"):
        shutil.copytree(alone / name, both / name)
    for store in (both / "queries").glob("*/manifest.json"):
        shutil.rmtree(store.parent)
    running = two_processes("run", folder / "small.yaml", "--out", both, "--json")
    outputs = [process.communicate(timeout=SECONDS) for process in running]
    assert [p.returncode for p in running] == [0, 0], outputs
    assert json.loads(outputs[0][0])
    assert outputs[1][0] == "", "the first process alone speaks"
    return alone, both


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_features_gram_and_scores_agree(runs, method):
    def scores(root: Path) -> np.ndarray:
        return read_scores(root / "scores" / f"{method}.zarr")

    def gram(root: Path) -> np.ndarray:
        with ocp.StandardCheckpointer() as checkpointer:
            return np.asarray(checkpointer.restore(root / "fisher" / method)["gram"])

    # The solve carries the rounding of features into the scores: 1.1e-5 was seen.
    for read, bound in (
        (lambda root: features(root, method), 1e-5),
        (gram, 1e-5),
        (scores, 1e-4),
    ):
        one, two = (read(root) for root in runs)
        assert np.abs(one - two).max() <= bound * np.abs(one).max()


@pytest.mark.slow
def test_the_top_lists_are_the_same(runs):
    def ranked(root: Path) -> list:
        with (root / "top" / "concept-trak.csv").open() as file:
            rows = list(csv.DictReader(file))
        return [(r["query"], r["attribute"], r["index"]) for r in rows if int(r["rank"]) <= 10]

    alone, both = (ranked(root) for root in runs)
    assert alone == both


@pytest.mark.slow
def test_each_process_computed_its_share(runs):
    lines = [json.loads(line) for line in (runs[1] / "log.jsonl").read_text().splitlines()]
    shares = [line["samples"] for line in lines if line["stage"] == "featurize"]
    total = read_manifest(runs[1] / "features" / "d-trak")["rows"]
    assert len(shares) == 2
    assert sum(shares) == total
    assert max(shares) < total


def test_half_an_address_is_refused(tmp_path):
    done = ctrak("run", "configs/smoke.yaml", "--out", tmp_path, "--processes", "2")
    assert done.returncode == 2
    assert "give all three" in done.stderr
