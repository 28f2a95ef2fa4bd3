"""What each result depends on: every setting is in a list or known to change no number."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from ctrak_jax.config import Config
from ctrak_jax.methods import METHODS, concept_trak
from ctrak_jax.run.keys import RESULTS, SETTINGS, feature_key, settings_of

CHANGE_NOTHING = {
    "gradient.batch",
    "gradient.time_chunk",
    "lds.keep_models",
    "model.efficient_attention",
    "model.remat",
    "projection.implementation",
    "projection.tile",
    "store.chunk",
    "train.checkpoint_every",
    "train.scan",
    "tune.checkpoint_every",
    "tune.scan",
}
"""Settings of memory and speed: no number moves beyond rounding."""
PLACES = {
    *("out", "store.url", "similarity.clip", "model.checkpoint", "model.folder", "model.vae"),
    *("model.prediction", "model.lora", "model.lora_scale", "model.t5_tokens"),
    *("query.reward", "query.masks", "similarity.template", "customise.concepts"),
    *(f"customise.{name}" for name in ("kind", "initial", "token", "train_prompt", "prompts")),
    "customise.candidates",
}
"""Where something is, and how it is read; keys have the content of a checkpoint, of what is given
beside it, of a CLIP model, of a reward's files and words, of masks and of a concept."""
ELSEWHERE = ("data.", "run.", "mesh.")
"""Sections that stand in keys by the data set's fingerprint and the seed, or in none."""
LISTED = {name for names in SETTINGS.values() for name in names}


def dotted(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The names of all fields of a config."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


FIELDS = set(dotted(Config().model_dump()))


def test_every_setting_is_in_a_list_or_changes_no_number():
    outside = {name for name in FIELDS - LISTED if not name.startswith(ELSEWHERE)}
    assert outside == CHANGE_NOTHING | PLACES


def test_no_list_has_a_setting_that_does_not_exist():
    assert LISTED <= FIELDS


def test_every_list_is_used_by_a_result_and_every_result_has_its_lists():
    assert {group for groups in RESULTS.values() for group in groups} == set(SETTINGS)


OTHER: dict[str, Any] = {
    "gradient": {"batch": 7, "time_chunk": 3},
    "projection": {"tile": 100, "implementation": "xla"},
    "run": {"devices": 1},
    "mesh": {"model": 2},
    "train": {"scan": 5, "checkpoint_every": 50},
    "store": {"chunk": 16, "url": "memory://store"},
    "evaluate": {"k": [3], "hidden_k": 7, "bootstrap": 200},
}
"""Other values of everything that must recompute neither a feature nor a score."""


def test_speed_memory_devices_and_evaluation_change_no_key():
    mine, other = Config(), Config.model_validate(OTHER)
    for result in set(RESULTS) - {"metrics", "abc measures", "lds"}:
        assert settings_of(other, result) == settings_of(mine, result), result
    made_by = {"model": "m"}
    for query in (False, True):
        for spec in {m.train for m in METHODS.values() if m.train is not None}:
            one, two = (
                feature_key(c, spec, made_by=made_by, timesteps=[1], parameters=9, query=query)
                for c in (mine, other)
            )
            assert one == two
            assert one["model"] == "m"


@pytest.mark.parametrize(
    ("section", "result"),
    [
        ({"train": {"steps": 7}}, "model"),
        ({"trajectory": {"seed": 7}}, "features"),
        ({"trajectory": {"guidance": 3.0}}, "features on inversions"),
        ({"store": {"dtype": "int8"}}, "features"),
        ({"query": {"eta": 0.1}}, "query features"),
        ({"query": {"minus": "others"}}, "query features"),
        ({"query": {"minus": "others"}}, "scores"),
        ({"score": {"solver": "cg"}}, "scores"),
        ({"evaluate": {"bootstrap": 200}}, "abc measures"),
        ({"data": {"seed": 7}}, "abc measures"),
        ({"query": {"minus": "others"}}, "query images"),
        ({"score": {"k": 5}}, "scores"),
        ({"score": {"damping": [1.0]}}, "scores"),
        ({"unlearning": {"fisher_samples": 7}}, "scores"),
        ({"evaluate": {"k": [3]}}, "metrics"),
        ({"evaluate": {"bootstrap": 200}}, "metrics"),
        ({"counterfactual": {"remove": 7}}, "counterfactual"),
        ({"report": {"maps": 7}}, "report"),
        ({"report": {"groups": ["artist"]}}, "report"),
        *(({"references": ["labels"]}, result) for result in ("scores", "metrics", "report")),
        ({"lds": {"images": 7}}, "outputs of a subset"),
        ({"lds": {"subsets": 7}}, "lds"),
        ({"lds": {"trainings": 2}}, "lds"),
        ({"encode": {"flip": True}}, "encoded"),
        ({"autoencoder": {"steps": 7}}, "text-to-image model"),
        *(
            ({"run": {"precision": "high"}}, result)
            for result in ("features", "query features", "query images", "scores", "abc scores")
        ),
        ({"run": {"precision": "highest"}}, "outputs of a subset"),
    ],
    ids=str,
)
def test_what_changes_a_number_changes_its_key(section, result):
    assert settings_of(Config.model_validate(section), result) != settings_of(Config(), result)


def test_precision_stands_in_a_key_where_it_is_not_the_default():
    """Keys of runs that knew no such setting stay as they are."""
    spec = METHODS["trak"].train
    assert spec is not None

    def key(precision: str) -> dict[str, Any]:
        config = Config.model_validate({"run": {"precision": precision}})
        return feature_key(config, spec, made_by={}, timesteps=[1], parameters=9)

    assert key("high") == key("default") | {"precision": "high"}
    for result in ("model", "text-to-image model", "encoded"):
        config = Config.model_validate({"run": {"precision": "high"}})
        assert settings_of(config, result) == settings_of(Config(), result), "training is not told"


def test_a_forward_feature_does_not_depend_on_guidance():
    guided = Config.model_validate({"trajectory": {"guidance": 3.0}})
    dsm, dps = METHODS["trak"].train, concept_trak("inversion", "own").train
    free = METHODS["concept-trak"].train
    assert dsm is not None
    assert dps is not None
    assert free is not None

    def key(config: Config, spec) -> dict[str, Any]:
        return feature_key(config, spec, made_by={}, timesteps=[1], parameters=9)

    assert key(guided, dsm) == key(Config(), dsm)
    assert key(guided, dps) != key(Config(), dps)
    assert key(guided, free) == key(Config(), free)
    told = free._replace(condition="own")
    assert key(Config(), told) != key(Config(), free)
