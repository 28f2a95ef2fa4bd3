"""``ctrak bench``: what it writes, and that rows set beside each other have the same results."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax import bench, cli, config, score
from ctrak_jax.bench import scaling, show, timing, work
from ctrak_jax.bench.timing import Call, Row
from ctrak_jax.errors import UsageError
from ctrak_jax.methods import METHODS

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
    assert [row["name"] for row in result["rows"] if row["peer"]] == [
        "spectrum",
        "cholesky",
        "dual",
    ]


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


@pytest.mark.slow
def test_every_projection_is_timed_beside_its_reference():
    rows = by_name(work.projection(SIZES))
    for kind in work.KINDS:
        row = rows[f"{kind}, xla, d = 64"]
        assert row.truth == f"{kind}, reference, d = 64"
        assert row.difference is not None
        assert row.difference <= 1e-5, kind
    dense, d = rows["rademacher, xla"], 334_784
    assert dense.gflops == pytest.approx(2e-9 * 2 * d * 32, rel=1e-2)
    assert dense.peak_mib is not None
    assert dense.temporaries_mib is not None
    assert dense.peak_mib >= dense.temporaries_mib + 4 * 2 * d / 2**20
    assert min(row.lower_s for name, row in rows.items() if "reference" not in name) > 0
    assert "factored, of gradients by leaf" in rows


def test_every_training_gradient_is_featurized_once(monkeypatch):
    methods = {name: METHODS[name] for name in ("trak", "ablation-a", "unlearning")}
    monkeypatch.setattr(work, "FEATURIZED", methods)
    (row,) = work.featurize(SIZES)
    assert row.name == "dsm, forward"
    assert row.gflops is not None
    projected = 2e-9 * 2 * 334_784 * 32
    assert row.gflops > projected
    assert row.run_min_s <= row.run_s <= row.run_max_s
    assert row.samples_per_second == pytest.approx(2 / row.run_s)


@pytest.mark.slow
def test_two_forced_devices_have_the_features_of_one():
    one, two = scaling.scaling(SIZES, devices=(1, 2), method="trak")
    assert (one.name, two.name, two.truth) == ("1 device", "2 devices", "1 device")
    assert one.difference == 0.0
    assert two.difference is not None
    assert 0.0 < two.difference <= 1e-5, "of two programs: not the same bits by accident"
    assert one.gflops == pytest.approx(two.gflops, rel=0.2)


def test_features_that_differ_between_devices_are_refused():
    (one,) = timing.in_turns([Call("2 devices", lambda: None, 1)], 1)

    def row(difference: float) -> Row:
        return one._replace(truth="1 device", difference=difference)

    scaling.refuse_different([row(9e-6)])
    for difference in (2e-5, float("nan")):
        with pytest.raises(ArithmeticError, match="2 devices: features differ from those of 1"):
            scaling.refuse_different([row(difference)])


def test_a_batch_that_cannot_be_split_is_a_usage_error():
    with pytest.raises(UsageError, match=r"--batch 12 must be a multiple of 8 .* try 16"):
        scaling.scaling(bench.Sizes(12, 32, 1, 1))


def test_a_process_that_dies_is_an_error(monkeypatch):
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(RuntimeError, match="ended with status 1"):
        scaling.scaling(SIZES, devices=(1,))


def test_flops_count_rounds_and_are_not_guessed():
    w = jnp.zeros((32, 32))

    def loop(x):
        return jax.lax.scan(lambda y, _: (jnp.sin(y @ w), None), x, None, length=5)[0]

    program = timing.compiled(loop, (jnp.zeros((8, 32)),))
    assert program.gflops == pytest.approx(5 * 2e-9 * 8 * 32 * 32)
    program = timing.compiled(loop, (jnp.zeros((8, 32)),), devices=4)
    assert program.gflops == pytest.approx(4 * 5 * 2e-9 * 8 * 32 * 32), "all devices together"
    assert timing.compiled(jnp.linalg.cholesky, (jnp.eye(8),)).gflops is None, "LAPACK's"

    def until(x):
        return jax.lax.while_loop(lambda y: y[0, 0] < 1, lambda y: y @ w, x)

    assert timing.compiled(until, (jnp.zeros((8, 32)),)).gflops is None, "rounds are not known"


def test_calls_alternate_and_are_prepared_each_time():
    done = []
    calls = [
        Call("a", lambda: done.append("a"), 6, gflops=3.0, before=lambda: done.append("before")),
        Call("b", lambda: done.append("b"), 6, peer="a"),
    ]
    first, second = timing.in_turns(calls, 2)
    assert done == ["before", "a", "b"] * 3
    assert first.speedup is None
    assert second.speedup is not None
    shared = timing.with_share(first, 10 * 3.0 / first.run_s)
    assert shared.share_of_peak == pytest.approx(0.1)
    assert timing.with_share(second, 1.0).share_of_peak is None


def test_difference_is_of_the_worst_vector():
    truth = np.array([[[3.0, 4.0], [0.0, 2.0]]])
    assert timing.apart(truth + np.array([[[0.0, 0.0], [0.0, 0.5]]]), truth) == pytest.approx(0.25)


def test_tables_show_only_what_is_known():
    rows = timing.in_turns([Call("plain", lambda: None, 1)], 1)
    result = {"benchmark": "solve", "unit": "queries", "batch": 1, "k": 32, "repeats": 1}
    result |= {"device": "1 x cpu", "cores": 2, "jax": "0", "rows": [rows[0]._asdict()]}
    result |= {"matmul_peak_gflops_per_second": 1.0}
    line = next(x for x in show.markdown(result).splitlines() if x.startswith("| plain"))
    assert line.endswith("| - | - | - | - | - | - |")
    assert "plain" in show.table(result)
