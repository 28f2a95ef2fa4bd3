"""A preset goes below what a file and the command line give."""

import numpy as np

from ctrak_jax.config import Config, dump, load
from ctrak_jax.config.presets import PRESETS


def test_a_preset_goes_below_what_is_given(tmp_path):
    file = tmp_path / "some.yaml"
    file.write_text("preset: published\ntrajectory: {guidance: 3}\n")
    found = load(file, {"query.eta": "0"})
    assert (found.trajectory.guidance, found.query.eta) == (3.0, 0.0)
    assert found.trajectory.negative == "null"
    assert (found.projection.kind, found.projection.k) == ("mask", 32768)
    assert (found.query.guidance, found.query.scale) == (7.5, 7.5)
    again = tmp_path / "again.yaml"
    again.write_text(dump(found))
    assert load(again) == found


def test_abc_has_the_published_code_s_own_values():
    given = {
        "preset": "published",
        "data": {"kind": "abc", "path": "there"},
        "model": {"kind": "text-to-image", "checkpoint": "there"},
        "query": {"check": "none", "repetitions": 256},
    }
    found = Config.model_validate(given)
    assert (found.data.candidates, found.data.order) == (100_000, "file")
    query = found.query
    assert (query.path, query.timesteps, query.repetitions) == ("resample", "one", 256)
    assert (query.guidance, query.eta, query.scale) == (1.0, 0.1, 3.0)
    assert (found.score.damping, found.score.kernel) == ((1.0,), "laion")
    np.testing.assert_allclose(found.score.oracle, np.logspace(-4, 4, 9))
    assert (found.projection.kind, found.trajectory.guidance) == ("mask", 7.5)
    assert Config.model_validate(found.model_dump()) == found


def test_a_preset_sets_its_own_fields_alone():
    plain = Config().model_dump()
    preset = Config.model_validate({"preset": "published"}).model_dump()
    for section, fields in PRESETS["published"].items():
        for field, value in fields.items():
            assert preset[section][field] == value
            preset[section][field] = plain[section][field]
    assert preset | {"preset": None} == plain
