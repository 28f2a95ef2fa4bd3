"""The configs of the benchmarks' data sets."""

import pytest

from benchmarks import draw_robots, photographs
from ctrak_jax import config
from tests.paths import ROOT

VALUES = {
    "robots": {name: set(known) for name, known in draw_robots.VALUES.items()},
    "photographs": {
        "motif": set(photographs.MOTIFS),
        "tint": set(photographs.TINTS),
        "style": set(photographs.STYLES),
    },
}


@pytest.mark.parametrize("name", VALUES)
def test_what_is_held_out_exists(name):
    data = config.load(ROOT / "benchmarks" / f"{name}.yaml").data
    assert list(data.condition_on) == list(VALUES[name])
    for held in data.hold_out:
        assert all(value in VALUES[name][attribute] for attribute, value in held.items())
