"""A run's own classifier: one fit for all training seeds, kept until data or fit are others."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ctrak_jax import config as cfg
from ctrak_jax import pipeline
from ctrak_jax.data import build
from ctrak_jax.devices import local_mesh
from ctrak_jax.errors import UsageError
from ctrak_jax.rewards.classifier import file
from ctrak_jax.rewards.classifier.fitting import FitSettings
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.stages.ask import classifier
from ctrak_jax.stages.context import Context

WHERE = Path("rewards", "classifier.safetensors")
Contexts = Callable[..., list[Context]]


@pytest.fixture
def contexts(tmp_path, monkeypatch) -> Contexts:
    """Those of two training seeds; a fit takes two steps."""
    monkeypatch.setattr(classifier, "FitSettings", partial(FitSettings, batch=4))
    monkeypatch.setattr(classifier, "steps_for", lambda count: 2)

    def made(reward: str = "classifier", seed: int = 0) -> list[Context]:
        query = cfg.QueryConfig(reward=reward)
        config = cfg.Config(data=cfg.DataConfig(size=24, image_size=8, seed=seed), query=query)
        found, mesh = build(config.data), local_mesh(1)
        return [
            Context(
                config=config,
                folder=RunFolder(root=tmp_path / str(training)),
                seed=training,
                training_set=found,
                dataset=found,
                mesh=mesh,
            )
            for training in (5, 6)
        ]

    return made


def test_both_seeds_have_the_one_classifier_and_it_is_kept(contexts, tmp_path):
    ready = contexts()
    classifier.fit_for_run(ready)
    places = [tmp_path / seed / WHERE for seed in ("5", "6")]
    first = [place.read_bytes() for place in places]
    assert first[0] == first[1]
    assert file.read(places[0]).about["made_from"]["fit"]["seed"] == 5
    written = [place.stat().st_mtime_ns for place in places]
    classifier.fit_for_run(ready)
    assert [place.stat().st_mtime_ns for place in places] == written


@pytest.mark.parametrize("harm", ["missing", "damaged", "other data"])
def test_it_is_fitted_again_where_it_has_to_be(contexts, tmp_path, harm):
    ready, place = contexts(), tmp_path / "6" / WHERE
    classifier.fit_for_run(ready)
    first = place.read_bytes()
    if harm == "missing":
        place.unlink()
    elif harm == "damaged":
        place.write_bytes(first[:100])
    else:
        ready = contexts(seed=9)
    classifier.fit_for_run(ready)
    assert (place.read_bytes() == first) == (harm != "other data")
    assert file.read(place).about["made_from"]["data"] == ready[0].training_set.fingerprint


@pytest.mark.parametrize("asked", ["slider", "classifier:other.safetensors"])
def test_no_other_reward_fits_one(contexts, tmp_path, asked):
    classifier.fit_for_run(contexts(asked))
    assert not (tmp_path / "5").exists()


def test_a_refusal_of_what_was_fitted_keeps_the_fit_and_no_config(contexts, tmp_path, monkeypatch):
    def refused(_: Context) -> None:
        assert (tmp_path / "run" / WHERE).exists()
        raise UsageError("the gradient is 0")

    monkeypatch.setattr(pipeline, "check_for_run", refused)
    with pytest.raises(UsageError, match="gradient is 0"):
        pipeline.run(contexts()[0].config, tmp_path / "run")
    assert (tmp_path / "run" / WHERE).exists()
    assert not (tmp_path / "run" / "config.yaml").exists()
