"""Released features as a run's own, and the whole of `ctrak abc` against PyTorch's numbers."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from ctrak_jax import abc, cli
from ctrak_jax.abc import importing
from ctrak_jax.abc.coordinates import placed, read_coordinates
from ctrak_jax.abc.importing import read_released
from ctrak_jax.abc.inputs import LaionInputs
from ctrak_jax.abc.prepared import Benchmark, prepare
from ctrak_jax.config import Config
from ctrak_jax.errors import UsageError
from ctrak_jax.store import FeatureStore, read_manifest
from tests.wild import abc_mini, forms

ROWS, K = 40, 256
DAMPINGS = [10.0**n for n in range(-4, 5)]
TASKS, OF = (0, 1, 2), (slice(0, 4), slice(0, 4), slice(4, 5))
"""The miniature's tasks, and their rows among all exemplars."""
GRADS = "grads/attn2-dps-NFE10-norm-ddim-gs_7.5"


def settings(data: Path) -> dict[str, Any]:
    """The published trajectories; questions as the miniature asks them."""
    return {
        "preset": "published",
        "methods": ["concept-trak"],
        "controls": [],
        "run": {"devices": 1},
        "data": {"kind": "abc", "path": str(data), "candidates": ROWS},
        "model": {"kind": "text-to-image", "checkpoint": str(forms() / "formats" / "sd_fp16")},
        "gradient": {"include": ["*attn2*"], "time_chunk": 3, "batch": 5},
        "projection": {"k": K},
        "store": {"chunk": 16},
        "query": {
            "check": "none",
            "path": "inversion",
            "timesteps": "all",
            "eta": 0.0,
            "repetitions": 1,
        },
        "evaluate": {"bootstrap": 100},
    }


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    return load_file(abc_mini() / "reference.safetensors")


def other_mask() -> np.ndarray:
    return np.sort(np.random.default_rng(1).permutation(16512)[:K])


@pytest.fixture(scope="module")
def place(tmp_path_factory, reference) -> Path:
    """A config, and coordinates in both forms: the right ones as steps, others as they are."""
    folder = tmp_path_factory.mktemp("import")
    (folder / "some.yaml").write_text(yaml.safe_dump(settings(abc_mini())))
    steps = np.diff(reference["mask"], prepend=0).astype(np.uint16)
    np.savez(folder / "both.npz", another=other_mask(), sm132=steps)
    return folder


@pytest.fixture(scope="module")
def run(place) -> Path:
    """Imported features, then the benchmark."""
    arguments = [str(place / "some.yaml"), "--out", str(place / "out")]
    given = [str(abc_mini() / GRADS), *arguments, "--coordinates", str(place / "both.npz")]
    assert cli.main(["abc", "import", *given]) == 0
    assert cli.main(["abc", *arguments]) == 0
    return place / "out"


def columns(reference) -> np.ndarray:
    bench = prepare(Config.model_validate(settings(abc_mini())), Path("nowhere"))
    return placed(reference["mask"], bench.shapes).columns


def distance(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def rows_of(run: Path) -> list[dict[str, Any]]:
    """The table's rows of the method, without those of references."""
    rows = json.loads((run / "abc.json").read_text())["rows"]
    return [row for row in rows if row["method"] == "concept-trak"]


def features(folder: Path) -> np.ndarray:
    return FeatureStore(folder, read_manifest(folder)).read()


def test_the_store_is_the_released_rows(run, reference):
    whole = np.concatenate(
        [np.fromfile(abc_mini() / GRADS / f"train_grad-{i}.npy", np.float32) for i in (0, 1)]
    ).reshape(ROWS, K)
    np.testing.assert_array_equal(
        features(run / "features" / "concept-trak"), whole[:, columns(reference)]
    )
    about = json.loads((run / "imported" / "manifest.json").read_text())
    assert about["source"] == str(abc_mini() / GRADS)
    assert about["coordinates"]["name"] == "sm132"
    # Of rows made here: the same but for rounding in float32, which the guided inversion enlarges.
    assert about["correlation"]["sm132"] > 1 - 2e-6
    assert abs(about["correlation"]["another"]) < 0.3
    assert about["taken_as"]["trajectory"]["guidance"] == 7.5
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert "featurize" not in {line["stage"] for line in log}


def test_rows_made_here_differ_from_the_released_ones_by_rounding(place, run, monkeypatch):
    """A guided inversion enlarges rounding: latents changed in their last place change features by
    as much as float32 differs from the reference's float64."""
    bench = prepare(Config.model_validate(settings(abc_mini())), run)
    sets = read_coordinates(place / "both.npz")
    known = {name: placed(values, bench.shapes) for name, values in sets.items()}
    released, found = read_released(abc_mini() / GRADS, K), []
    featurized, latents = importing._featurized, LaionInputs.samples

    def recorded(bench: Benchmark, rows: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
        features = featurized(bench, rows, coordinates)
        found.append((rows, features[:, np.searchsorted(coordinates, known["sm132"].here)]))
        return features

    def nudged(self, rows, *, mirrored=False):
        return np.nextafter(latents(self, rows, mirrored=mirrored), np.float32(np.inf))

    monkeypatch.setattr(importing, "_featurized", recorded)
    importing._correlation(bench, released, known)
    monkeypatch.setattr(LaionInputs, "samples", nudged)
    importing._correlation(bench, released, known)
    (rows, made), (_, changed) = found
    stored = np.concatenate([released[range(row, row + 1)] for row in rows])
    differences, changes = (
        np.median([distance(*pair) for pair in zip(made, other, strict=True)])
        for other in (stored[:, known["sm132"].columns], changed)
    )
    assert differences < 5e-3
    assert differences < 4 * changes


def test_exemplars_and_questions_have_the_same_coordinates(run, reference):
    chosen = columns(reference)
    exemplars = features(run / "exemplars" / "features" / "concept-trak")
    questions = features(run / "queries" / "concept-trak")
    folder = abc_mini() / "grads" / "attn2-test_grad-NFE10-gs_1.0-eta_0.1-norm"
    for task, rows in zip(TASKS, OF, strict=True):
        expected = reference[f"task{task}/exemplar_gradients_same_sign"][:, chosen]
        for found, wanted in zip(exemplars[rows], expected, strict=True):
            # Their latents are encoded here, and a guided inversion enlarges rounding.
            assert distance(found, wanted) < 0.04
        asked = np.fromfile(folder / f"test_grad-{task}.npy", np.float32)[chosen]
        assert distance(questions[task], asked) < 2e-4


def test_scores_and_recall_are_those_of_the_published_tools(run, reference):
    """At every damping, with one sign for all candidates: LAION's Fisher, exemplars first."""
    laion = np.load(run / "scores" / "concept-trak.npy")
    own = np.load(run / "scores" / "concept-trak-exemplars.npy")
    firsts = np.cumsum([0, 4, 4])
    for task, first in zip(TASKS, firsts, strict=True):
        expected = reference[f"task{task}/scores"][:, 1]
        count = expected.shape[1] - ROWS
        mine = np.concatenate([own[:, first : first + count], laion[:, task]], axis=1)
        for r, wanted, found in zip(DAMPINGS, expected, mine, strict=True):
            same = np.corrcoef(found, wanted)[0, 1]
            assert same > 0.9998, (task, r, same)
    rows = rows_of(run)
    for row, task in zip(rows, TASKS, strict=True):
        found, every = reference[f"task{task}/recall10"][:, 1].T
        assert row["recall"]["10"] == found[DAMPINGS.index(1.0)]
        assert row["found"]["10"] == pytest.approx(every[DAMPINGS.index(1.0)])
        assert row["oracle"]["recall"]["10"] == found.max()


def test_metrics_are_those_of_independent_numbers(run):
    """From the stored features alone, in float64: kernel, damping, ranks, recall, precision."""
    folders = ("features", "exemplars/features", "queries")
    laion, exemplars, asked = (
        features(run / name / "concept-trak").astype(np.float64) for name in folders
    )
    kernel = laion.T @ laion
    kernel += 0.1 * np.trace(kernel) / K * np.eye(K)
    rows = rows_of(run)
    for row, task, own in zip(rows, TASKS, OF, strict=True):
        z = np.linalg.solve(kernel, asked[task])
        scores = np.concatenate([exemplars[own], laion]) @ z
        count = own.stop - own.start
        hits = np.flatnonzero(np.argsort(-scores, kind="stable") < count) + 1
        for k in (5, 10):
            assert row["recall"][str(k)] == np.sum(hits <= k) / min(k, count)
            assert row["found"][str(k)] == np.sum(hits <= k) / count
        assert row["average_precision"] == pytest.approx(np.mean(np.arange(1, count + 1) / hits))
        assert row["candidates"] == ROWS + count


def test_the_tables_say_what_was_not_made_here(run):
    text = (run / "abc.md").read_text()
    assert "LAION's features of concept-trak were not made here: imported from " in text
    assert "Oracle: for every task the damping" in text


# Refusals


def complaint(place: Path, capsys, *given: str, folder: Path | None = None) -> str:
    command = ["abc", "import", str(folder or abc_mini() / GRADS), str(place / "some.yaml")]
    assert cli.main([*command, "--out", str(place / "other"), *given]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ctrak: ")]
    return line


def test_other_coordinates_are_refused(place, capsys, monkeypatch):
    """Rows made here at wrong coordinates are as random numbers to the released ones: the first
    test has the correlation of these."""

    def random_rows(_: Benchmark, rows: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
        return np.random.default_rng(2).normal(size=(len(rows), len(coordinates)))

    monkeypatch.setattr(importing, "_featurized", random_rows)
    np.save(place / "another.npy", other_mask())
    line = complaint(place, capsys, "--coordinates", str(place / "another.npy"))
    assert "features made here correlate with the stored ones by" in line
    assert not (place / "other" / "imported").exists()
    assert not (place / "other" / "features").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--trajectory.guidance", "3.0"], "trajectory.guidance=3.0, but the released features"),
        (["--projection.kind", "srht"], "projection.kind=srht, but the released features"),
        (["--data.order", "random"], "data.order=random, but the released features"),
        (["--methods", "[trak]"], "methods lacks concept-trak"),
        (["--projection.k", "96"], "are no whole rows of projection.k=96"),
        (["--projection.k", "128"], "no set of projection.k=128 coordinates"),
        (["--gradient.include", "['*attn*']"], "the released features are of the cross-attention"),
    ],
    ids=str,
)
def test_other_settings_are_refused(place, capsys, given, said):
    assert said in complaint(place, capsys, "--coordinates", str(place / "both.npz"), *given)


def test_missing_and_damaged_features_are_named(tmp_path):
    folder = shutil.copytree(abc_mini() / GRADS, tmp_path / "grads")
    assert read_released(folder, K).count == ROWS
    file = folder / "train_grad-0.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-8])
    with pytest.raises(UsageError, match=r"train_grad-0\.npy: 20472 bytes are no whole rows"):
        read_released(folder, K)
    file.write_bytes(bytes(4 * K) + whole[4 * K :])
    with pytest.raises(UsageError, match=r"train_grad-0\.npy: row 0 of those read is zero"):
        _ = read_released(folder, K)[range(4)]
    file.unlink()
    with pytest.raises(UsageError, match=r"train_grad-0\.npy: no such file"):
        read_released(folder, K)
    with pytest.raises(UsageError, match=r"holds no train_grad-0\.npy"):
        read_released(tmp_path, K)


def test_blocks_of_rows_cross_the_files():
    released = read_released(abc_mini() / GRADS, K)
    whole = np.concatenate(released.parts)
    np.testing.assert_array_equal(released[range(18, 23)], whole[18:23])
    np.testing.assert_array_equal(released[range(40)], whole)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.ones((2, 3), np.int64), "expected integers in one dimension"),
        (np.ones(3), "expected integers in one dimension"),
        (np.array([3, 1]), "do not ascend"),
        (np.array([-1, 1]), "do not ascend"),
        (None, "no file of coordinates can be read"),
    ],
)
def test_what_are_no_coordinates_is_refused(tmp_path, values, said):
    file = tmp_path / "some.npy"
    file.write_bytes(b"nonsense") if values is None else np.save(file, values)
    with pytest.raises(UsageError, match=said) as caught:
        read_coordinates(file)
    assert str(caught.value).startswith(f"{file}: ")


# The order of the published code


def test_coordinates_follow_pytorch_s_order():
    """Down, up, middle; to_q, to_k, to_v, to_out, its bias; a weight [out, in] row by row."""
    block = "attentions_0/transformer_blocks_0/attn2"
    order = ["down_blocks_0", "down_blocks_1", "up_blocks_2", "up_blocks_10", "mid_block"]
    names = ["to_q/kernel", "to_k/kernel", "to_v/kernel", "to_out_0/kernel", "to_out_0/bias"]
    rng = np.random.default_rng(0)
    here, released = {}, []
    for part in order:
        for name in names:
            shape = (4,) if name.endswith("bias") else (3 if "to_k" in name else 4, 4)
            here[f"{part}/{block}/{name}"] = value = rng.normal(size=shape)
            released.append(value.T.ravel())
    there, flat = np.concatenate(released), np.concatenate([here[n].ravel() for n in sorted(here)])
    chosen = np.sort(rng.permutation(len(there))[:60])
    found = placed(chosen, {name: value.shape for name, value in here.items()})
    np.testing.assert_array_equal(flat[found.here], there[chosen][found.columns])
    assert (np.diff(found.here) > 0).all()


def test_the_abc_run_without_an_import_has_coordinates_of_its_own(run, reference):
    """A run elsewhere does not see what was imported."""
    bench = prepare(Config.model_validate(settings(abc_mini())), run.parent / "elsewhere")
    assert bench.imported is None
    assert bench.recipe.projection.coordinates is None
    assert abc.__all__ == ["run"]
