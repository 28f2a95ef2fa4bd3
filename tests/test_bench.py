"""``ctrak bench``: what it writes, and that rows set beside each other have the same results."""

import json
import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax import cli, config, fisher, score
from ctrak_jax.errors import UsageError
from ctrak_jax.stages import bench
from ctrak_jax.stages.bench import forced, scaling, show, timing, work
from ctrak_jax.stages.bench.timing import Call, Row

SIZES = bench.Sizes(batch=2, k=32, rows=150, repeats=3)
FIELDS = set(Row._fields)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(timing, "PEAK_SIDE", 64)
    monkeypatch.setattr(work, "SOLVE_ROWS", 60)


def by_name(rows: list[Row]) -> dict[str, Row]:
    return {row.name: row for row in rows}


def test_the_command_writes_json_markdown_and_a_chart(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = ("--batch", "2", "--k", "32", "--rows", "150", "--repeats", "2")
    file, out = tmp_path / "given.json", tmp_path / "runs" / "bench"
    assert cli.main(["bench", "scoring", *sizes, "--json", str(file), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "from memory, numpy" in printed
    result = json.loads(file.read_text())
    assert json.loads((out / "scoring.json").read_text()) == result
    assert result["unit"] == "rows"
    assert result["matmul_peak_gflops_per_second"] > 0
    assert all(set(row) == FIELDS for row in result["rows"])
    lines = (out / "scoring.md").read_text().splitlines()
    assert sum(line.startswith("|") for line in lines) == 2 + len(result["rows"])
    assert (out / "scoring.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["given.json", "runs"], "no store is left"


def test_json_without_a_file_is_all_of_stdout(capsys):
    sizes = ("--batch", "2", "--k", "32", "--repeats", "1")
    assert cli.main(["bench", "solve", *sizes, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["unit"] == "queries"
    assert [row["name"] for row in result["rows"] if row["peer"]] == ["spectrum", "cholesky", "dual"]


def test_solvers_and_numpy_have_the_same_scores(monkeypatch):
    """Both where the sample side is the smaller, as by default, and where it is the larger."""
    for samples in (20, 60):
        monkeypatch.setattr(work, "SOLVE_ROWS", samples)
        rows = by_name(work.solve(SIZES))
        assert len(rows) == 7
        for name, row in rows.items():
            assert (row.difference is None) == (name == "spectrum")
            assert row.difference is None or row.difference <= 2e-3, name


@pytest.mark.parametrize("solver", work.NUMPY_SOLVERS)
def test_numpy_solvers_give_the_equations_scores(solver):
    rng = np.random.default_rng(3)
    features = rng.standard_normal((24, 16)).astype(np.float32)
    queries = rng.standard_normal((3, 16)).astype(np.float32)
    multiples = config.Config().score.damping
    found = work.NUMPY_SOLVERS[solver](features, queries, multiples)
    gram = features.T.astype(np.float64) @ features
    for scores, r in zip(found, multiples, strict=True):
        lam = 0.1 * r * np.trace(gram) / 16
        exact = queries @ np.linalg.solve(gram + lam * np.eye(16), features.T)
        np.testing.assert_allclose(scores, exact, rtol=2e-3, atol=2e-3 * np.abs(exact).max())


def test_numpy_scoring_ranks_as_score_does():
    rng = np.random.default_rng(4)
    z, features = rng.standard_normal((3, 8)), rng.standard_normal((50, 8))
    mine = score.top_k(jnp.asarray(z @ features.T, jnp.float32), 7)
    np.testing.assert_allclose(work.numpy_top(z, features, 7), mine.score, rtol=1e-5)


def test_scoring_and_numpy_have_the_same_top(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = by_name(work.scoring(SIZES))
    memory = rows["from memory"]
    assert (memory.peer, memory.truth) == ("from memory, numpy", "from memory, numpy")
    assert memory.difference is not None
    assert memory.difference <= 1e-5
    assert memory.gflops == pytest.approx(2e-9 * 150 * 32 * 2)
    assert {row.peer for row in rows.values()} >= {"raw read, cache empty", "raw read, cache full"}


def test_every_projection_is_timed_beside_its_reference(monkeypatch):
    monkeypatch.setattr(work, "create", lambda *_: {"a/kernel": np.ones((8, 16), np.float32)})
    monkeypatch.setattr(work, "selected", lambda ctx, model, variant: FakeSelected())
    rows = by_name(work.projection(SIZES))
    for kind in work.KINDS:
        row = rows[f"{kind}, xla, d = 64"]
        assert row.truth == f"{kind}, reference, d = 64"
        assert row.difference is not None
        assert row.difference <= 1e-5, kind
    dense = rows["rademacher, xla"]
    assert dense.gflops == pytest.approx(2e-9 * 2 * 128 * 32)
    assert dense.peak_mib is not None
    assert dense.temporaries_mib is not None
    assert dense.peak_mib >= dense.temporaries_mib + 4 * 2 * 128 / 2**20
    assert min(row.lower_s for name, row in rows.items() if "reference" not in name) > 0
    assert rows["factored, of gradients by leaf"].samples_per_second > 0
