"""Named sets of values that go below a config's own: ``preset: published``."""

from collections.abc import Mapping
from typing import Any

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "published": {
        "trajectory": {
            "path": "inversion",
            "condition": "own",
            "guidance": 7.5,
            "negative": "null",
            "steps": 50,
            "record_every": 5,
            "timesteps": "all",
        },
        "projection": {"kind": "mask", "k": 32768},
        "query": {"guidance": 7.5, "eta": 0.1, "repetitions": 8, "scale": 7.5},
    },
}
"""Preset -> section -> field -> value."""

IMITATED = ("projection: a choice of k = 32768 coordinates, no Johnson-Lindenstrauss map",)
"""Where the published code departs from the paper and ``published`` follows it."""

NOT_IMITATED = (
    "features of exemplars are negated",
    "the guidance loses its digits in half precision",
    "the damping is chosen per task on the test metric",
    "the timestep given to the network for queries is off by 19",
    "the noise recorded at inversion belongs to the previous step",
    "stored features are not keyed",
    "the guidance is a mean over the batch",
)
"""Where it does not."""


def below(preset: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A config's own values with those of a preset below them: a value that is given wins.

    Args:
        given: section -> its values, as a mapping or as a section that knows which were set.
    """
    whole = dict(given)
    for section, values in PRESETS[preset].items():
        own = whole.get(section, {})
        if hasattr(own, "model_dump"):
            own = own.model_dump(exclude_unset=True)
        if isinstance(own, Mapping):  # anything else is refused where it is read
            whole[section] = {**values, **own}
    return whole
