"""Two processes of four devices each on loopback give what one process gives."""

import json
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from ctrak_jax import hosts
from ctrak_jax.run.tops import read_tops
from ctrak_jax.store import read_manifest, read_scores
from tests.command import command, ctrak, environment
from tests.meeting.test_cluster import STEP
from tests.test_pipeline import CONFIG, METHODS, features

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


def finished(running: list[subprocess.Popen[str]]) -> list[tuple[str, str]]:
    """What the processes said, once they have ended well."""
    outputs = [process.communicate(timeout=SECONDS) for process in running]
    assert [p.returncode for p in running] == [0, 0], outputs
    return outputs


class Runs(NamedTuple):
    """The same run by one process of one device, one of four, and two of four; one model."""

    alone: Path
    four: Path
    both: Path


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    folder = tmp_path_factory.mktemp("hosts")
    (folder / "small.yaml").write_text(CONFIG)
    found = Runs(*(folder / name for name in Runs._fields))
    done = ctrak("run", folder / "small.yaml", "--out", found.alone)
    assert done.returncode == 0, done.stderr
    for out in found[1:]:
        for name in ("model", ".stages", "queries"):
            shutil.copytree(found.alone / name, out / name)
        for store in (out / "queries").glob("*/manifest.json"):
            shutil.rmtree(store.parent)
    done = ctrak("run", folder / "small.yaml", "--out", found.four, devices=4)
    assert done.returncode == 0, done.stderr
    outputs = finished(two_processes("run", folder / "small.yaml", "--out", found.both, "--json"))
    assert json.loads(outputs[0][0])
    assert outputs[1][0] == "", "the first process alone speaks"
    return found


def scores(root: Path, method: str) -> np.ndarray:
    return read_scores(root / "scores" / f"{method}.zarr")


def gram(root: Path, method: str) -> np.ndarray:
    with ocp.StandardCheckpointer() as checkpointer:
        return np.asarray(checkpointer.restore(root / "fisher" / method)["gram"])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_features_gram_and_scores_agree(runs, method):
    """With one device the batches of a device have other shapes, and the solve carries the rounding
    of the features into the scores (1.1e-5 was seen): these are compared at equal shapes."""
    for read, other, bound in (
        (features, runs.alone, 1e-5),
        (gram, runs.alone, 1e-5),
        (scores, runs.four, 1e-5),
        (scores, runs.alone, 1e-4),
    ):
        one, two = read(other, method), read(runs.both, method)
        assert np.abs(one - two).max() <= bound * np.abs(one).max()


def ranked(root: Path) -> dict[tuple[str, str], list[int]]:
    tops = read_tops(root / "top" / "concept-trak.csv")
    return {key: [hit.index for hit in hits[:10]] for key, hits in tops.items()}


@pytest.mark.slow
def test_the_top_lists_are_the_same(runs):
    assert ranked(runs.alone) == ranked(runs.both) == ranked(runs.four)


@pytest.mark.slow
def test_conjugate_gradients_over_both_processes(runs, tmp_path):
    """Every process goes through its own rows: products and top lists are reduced."""
    for out in runs:
        shutil.copytree(out, tmp_path / out.name)
    done = ctrak("score", tmp_path / "four", "--score.solver", "cg", devices=4)
    assert done.returncode == 0, done.stderr
    finished(two_processes("score", tmp_path / "both", "--score.solver", "cg"))
    for name in (".", "controls/wrong-label"):
        for method in METHODS:
            one, two = (scores(tmp_path / out / name, method) for out in ("four", "both"))
            assert np.linalg.norm(one - two) <= 5e-3 * np.linalg.norm(one)  # the tolerance of cg
    assert ranked(tmp_path / "four") == ranked(tmp_path / "both")
    line = json.loads((tmp_path / "both" / "log.jsonl").read_text().splitlines()[-1])
    assert {s["solver"] for s in line["solvers"].values()} == {"cg"}


@pytest.mark.slow
def test_each_process_computed_its_share(runs):
    lines = [json.loads(line) for line in (runs.both / "log.jsonl").read_text().splitlines()]
    shares = [line["samples"] for line in lines if line["stage"] == "featurize"]
    total = read_manifest(runs.both / "features" / "d-trak")["rows"]
    assert len(shares) == 2
    assert sum(shares) == total
    assert max(shares) < total


@pytest.mark.slow
def test_fewer_chunks_than_processes(runs, tmp_path):
    """One chunk: the second process has no rows, and takes part in what all do."""
    for name in ("model", ".stages", "queries"):
        shutil.copytree(runs.four / name, tmp_path / "run" / name)
    given = ["--store.chunk", "64", "--score.solver", "cg", "--out", tmp_path / "run"]
    config = runs.alone.parent / "small.yaml"
    for stage in ("featurize", "score"):
        finished(two_processes(stage, config, *given))
    for method in METHODS:
        one, two = features(runs.alone, method), features(tmp_path / "run", method)
        assert np.abs(one - two).max() <= 1e-5 * np.abs(one).max()
        one, two = (scores(root, method) for root in (runs.alone, tmp_path / "run"))
        assert np.linalg.norm(one - two) <= 5e-3 * np.linalg.norm(one)  # the tolerance of cg


@pytest.mark.parametrize(("count", "chunk", "processes"), [(60, 64, 3), (60, 32, 5), (0, 4, 2)])
def test_parts_cover_all_rows_once(monkeypatch, count, chunk, processes):
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    found = []
    for process in range(processes):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        found += [*hosts.part(count, chunk)]
    assert found == list(range(count))


@pytest.mark.parametrize(
    ("variables", "status", "told"),
    [
        ({}, 1, "process 0 at 127.0.0.1 (.*missing after 2 s (--join-timeout): process 1."),
        ({"SLURM_JOB_ID": "7"}, 2, "SLURM_JOB_ID=7, without SLURM_STEP_NODELIST"),
        (
            STEP | {"SLURM_STEP_NODELIST": "node.invalid"},
            1,
            "node.invalid is no name that this machine knows",
        ),
    ],
    ids=["one of two", "no step", "no node"],
)
def test_processes_that_cannot_meet_end_with_one_line(tmp_path, variables, status, told):
    where = ["--distributed"]
    if not variables:
        where = ["--coordinator", f"127.0.0.1:{free_port()}", "--processes=2", "--process=0"]
    given = command("run", "configs/smoke.yaml", "--out", tmp_path, "--join-timeout=2", *where)
    done = subprocess.run(
        given, capture_output=True, text=True, env=environment() | variables, timeout=SECONDS
    )
    assert done.returncode == status
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("ctrak: ")]
    assert re.search(re.escape(told).replace(re.escape(".*"), ".*"), line)
    assert "stack trace" not in done.stderr
    assert "Traceback" not in done.stderr


def test_half_an_address_is_refused(tmp_path):
    done = ctrak("run", "configs/smoke.yaml", "--out", tmp_path, "--processes", "2")
    assert done.returncode == 2
    assert "give all three" in done.stderr
