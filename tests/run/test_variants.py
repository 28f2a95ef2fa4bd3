"""Which features a run makes, by hand."""

import pytest

from ctrak_jax import config as cfg
from ctrak_jax.run.variants import controls, feature_sets

BOTH = {
    "methods": ("concept-trak", "d-trak", "unlearning"),
    "data": {"condition_on": ["shape", "color"]},
}


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (
            {"controls": []},
            {
                "": (2, 500, "null"),
                "without shape": (2, 500, "own"),
                "without color": (2, 500, "own"),
            },
        ),
        (
            {"trajectory": {"condition": "null"}},
            {  # label-free features are the same wherever conditions alone are changed
                "": (2, 500, "null"),
                "wrong-label": (1, 500, None),
                "without shape": (1, 500, None),
                "without color": (1, 500, None),
            },
        ),
        (
            {
                "trajectory": {"condition": "null"},
                "unnamed": {"attributes": ["color"], "candidates": 100},
                "controls": ["no-condition-embedding"],
            },
            {
                "": (2, 500, "null"),
                "no-condition-embedding": (2, 500, "null"),
                "without color": (2, 100, "null"),
            },
        ),
        (
            {"unnamed": {"attributes": [], "candidates": 100}, "controls": []},
            {"": (2, 500, "null")},
        ),
        (
            {"methods": ["concept-trak"], "trajectory": {"condition": "null"}},
            {"": (1, 500, "null")},
        ),
    ],
)
def test_a_run_keeps_one_set_and_one_per_variant(settings, wanted):
    """By the variant's name: gradients, candidates, and the condition of Concept-TRAK's."""
    config = cfg.Config.model_validate(BOTH | settings)
    found = {}
    for one in feature_sets(config, 500):
        told = [spec.condition for spec in one.specs(config) if spec.loss == "dps"]
        found[one.variant.name] = (len(one.specs(config)), one.samples, (told or [None])[0])
    assert found == wanted


def test_a_control_of_labels_is_left_out_where_there_are_none():
    captions = cfg.Config.model_validate(
        {
            "model": {"kind": "text-to-image"},
            "data": {"kind": "folder", "path": "mine", "condition_on": []},
            "query": {"check": "none"},
            "controls": ["no-condition-embedding", "wrong-label"],
            "score": {"keep_all": False},
        }
    )
    assert [one.name for one in controls(captions)] == ["no-condition-embedding"]
    labels = cfg.Config.model_validate(BOTH)
    assert [one.name for one in controls(labels)] == ["wrong-label"]
