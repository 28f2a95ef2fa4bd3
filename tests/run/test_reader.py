"""A run opened for reading: two seeds' tables, pictures, features and scores, written by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ctrak_jax
from ctrak_jax import config as cfg
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.run.dampings import Damping, write_dampings
from ctrak_jax.run.folder import ensemble_folder, seed_folder
from ctrak_jax.run.questions import Question, write_questions
from ctrak_jax.run.tops import Hit, write_tops
from ctrak_jax.store import FeatureStore, Place, write_scores

CONFIG = cfg.Config(run=cfg.RunConfig(seeds=(4, 2)), data=cfg.DataConfig(size=12))
QUESTION = Question(
    query="circle-red-00",
    condition={"shape": "circle", "color": "red"},
    attribute="color",
    minus={"shape": "circle"},
    scope="local",
    scenario="id",
    split="report",
    image="images/circle-red-00.png",
)


def features(seed: int) -> np.ndarray:
    return np.arange(6, dtype=np.float32).reshape(3, 2) + seed


def write(out: Path, config: cfg.Config) -> Path:
    """A run in which everything of a seed bears its number."""
    out.mkdir()
    (out / "config.yaml").write_text(cfg.dump(config))
    for seed in config.run.seeds:
        folder = seed_folder(config, out, seed)
        write_questions(folder.questions, [QUESTION])
        write_tops(folder.top("d-trak"), {QUESTION.key: [Hit(seed, 0.5)]})
        write_tops(folder.top("concept-trak"), {QUESTION.key: [Hit(seed, 0.25)]})
        silent = folder.part("unnamed/color")
        write_tops(silent.top("d-trak"), {QUESTION.key: [Hit(seed + 1, 0.5)]})
        write_scores(silent.scores("d-trak"), np.full((1, 2), seed + 1, np.float32))
        write_dampings(folder.dampings, {"d-trak": Damping(chosen=float(seed), curve=())})
        picture = folder.queries / QUESTION.image
        picture.parent.mkdir()
        Image.fromarray(np.full((8, 8, 3), seed, np.uint8)).save(picture)
        write_scores(folder.scores("d-trak"), np.full((1, 3), seed, np.float32))
        # das has d-trak's neighbour for a training gradient, ablation-base has trak's.
        write_features(folder.features("trak"), features(seed))
    return out


def write_features(place: Place, rows: np.ndarray) -> None:
    count, width = rows.shape
    store = FeatureStore.create(
        place, {}, index=np.arange(count), widths={"features": width}, chunk=count
    )
    store.write(range(count), {"features": rows})
    store.seal()


@pytest.fixture
def out(tmp_path) -> Path:
    return write(tmp_path / "out", CONFIG)


def test_every_seed_reads_its_own_results(out):
    run = ctrak_jax.open_run(out)
    assert list(run.seeds) == [4, 2]
    for seed, results in [*run.seeds.items(), (4, run)]:
        assert results.seed == seed
        assert list(results.questions) == [QUESTION]
        assert results.methods == ("concept-trak", "d-trak"), "in the order of every table"
        assert results.tops("d-trak")[QUESTION.key] == [Hit(seed, 0.5)]
        assert results.dampings["d-trak"].of("color") == seed
        np.testing.assert_array_equal(results.image(QUESTION), np.full((8, 8, 3), seed))
        np.testing.assert_array_equal(results.scores("d-trak"), np.full((1, 3), seed))
        np.testing.assert_array_equal(results.features("trak").read(), features(seed))
        silent = results.tops("d-trak", without="color")
        assert silent[QUESTION.key] == [Hit(seed + 1, 0.5)]
        scores = results.scores("d-trak", without="color")
        np.testing.assert_array_equal(scores, np.full((1, 2), seed + 1))


def test_methods_with_one_training_gradient_have_one_store(out):
    run = ctrak_jax.open_run(str(out))
    np.testing.assert_array_equal(run.features("ablation-base").read(), run.features("trak").read())


@pytest.mark.parametrize(
    ("settings", "own"),
    [
        ({"trajectory": {"condition": "unnamed"}}, True),
        ({"trajectory": {"condition": "null"}}, False),
        ({"trajectory": {"condition": "null"}, "unnamed": {"candidates": 10}}, False),
        (
            {
                "trajectory": {"condition": "null"},
                "unnamed": {"candidates": 2},
                "evaluate": {"k": [2]},
            },
            True,
        ),
    ],
)
def test_features_without_an_attribute_are_those_that_its_questions_are_answered_by(
    tmp_path, settings, own
):
    """Under the null condition the main ones are, where there are three candidates."""
    run = ctrak_jax.open_run(write(tmp_path / "out", cfg.Config.model_validate(settings)))
    write_features(run.folder.features("concept-trak"), features(100))
    if own:
        write_features(run.part("color").features("concept-trak"), features(200))
    found = run.features("concept-trak", without="color").read()
    np.testing.assert_array_equal(found, features(200 if own else 100))
    np.testing.assert_array_equal(run.features("concept-trak").read(), features(100))


def test_the_average_of_seeds_reads_its_own_results(out):
    run = ctrak_jax.open_run(out)
    with pytest.raises(StoreError, match=r"run `ctrak score` with score\.ensemble: true"):
        _ = run.ensemble
    folder = ensemble_folder(out)
    write_questions(folder.questions, [QUESTION])
    for part, score in ((folder, 0.125), (folder.part("unnamed/color"), 0.75)):
        write_tops(part.top("d-trak"), {QUESTION.key: [Hit(5, score)]})
        write_scores(part.scores("d-trak"), np.full((1, 3), score, np.float32))
    assert run.ensemble.methods == ("d-trak",)
    assert list(run.ensemble.questions) == [QUESTION]
    for without, score in ((None, 0.125), ("color", 0.75)):
        assert run.ensemble.tops("d-trak", without=without)[QUESTION.key] == [Hit(5, score)]
        scores = run.ensemble.scores("d-trak", without=without)
        np.testing.assert_array_equal(scores, np.full((1, 3), score))


def test_a_run_of_one_seed_has_its_results_in_its_own_folder(tmp_path):
    one = CONFIG.model_copy(update={"run": cfg.RunConfig(seeds=(7,))})
    run = ctrak_jax.open_run(write(tmp_path / "out", one))
    assert run.folder.root == run.path
    assert run.tops("d-trak")[QUESTION.key] == [Hit(7, 0.5)]


def test_the_data_set_is_that_of_the_config(out):
    run = ctrak_jax.open_run(out)
    assert run.config == CONFIG
    assert run.dataset.raw.images.shape == (12, 16, 16, 3)


def test_what_is_missing_is_named_with_its_command(out, tmp_path):
    run = ctrak_jax.open_run(out)
    with pytest.raises(StoreError, match="run `ctrak evaluate`"):
        _ = run.metrics
    with pytest.raises(StoreError, match="run `ctrak counterfactual`"):
        _ = run.counterfactual
    with pytest.raises(StoreError, match="run `ctrak lds`"):
        _ = run.lds
    with pytest.raises(StoreError, match="run `ctrak score`"):
        run.tops("das")
    with pytest.raises(StoreError, match=r"manifest\.json is missing"):
        run.features("concept-trak")
    with pytest.raises(StoreError, match="run `ctrak query`"):
        run.image_file(replace(QUESTION, image="images/none.png"))
    with pytest.raises(UsageError, match=r"holds no config\.yaml"):
        ctrak_jax.open_run(tmp_path)
