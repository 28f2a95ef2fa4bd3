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

ABC: dict[str, dict[str, dict[str, Any]]] = {
    "published": {
        "data": {"candidates": 100_000, "order": "file"},
        "query": {
            "path": "resample",
            "timesteps": "one",
            "guidance": 1.0,
            "eta": 0.1,
            "repetitions": 2,
            "scale": 3.0,
        },
        "score": {
            "damping": (1.0,),
            "oracle": tuple(10.0**n for n in range(-4, 5)),
            "kernel": "laion",
        },
    },
}
"""What ``data.kind: abc`` has instead or besides: the published code's own values for it."""

IMITATED = (
    "projection: a choice of k = 32768 coordinates, no Johnson-Lindenstrauss map",
    "candidates: the first 100,000 rows of LAION, not flipped",
    "questions: sampled again from the image's seed at eta 0.1 without guidance, one random "
    "timestep per repetition, slider scale 3",
    "Fisher and lambda of LAION alone",
    "the damping that is best for each task by its own Recall@10, as an oracle beside r = 1",
)
"""Where the published code departs from the paper and ``published`` follows it."""

NOT_IMITATED = (
    "features of exemplars are negated",
    "the guidance loses its digits in half precision",
    "the timestep given to the network for questions is off by 19",
    "gradients of questions are not normalised",
    "latents of exemplars are drawn from the encoder's distribution",
    "the two repetitions of a question start from two draws of its seed",
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
    abc = ABC.get(preset, {}) if _kind_of(given.get("data")) == "abc" else {}
    for section in {**PRESETS[preset], **abc}:
        values = {**PRESETS[preset].get(section, {}), **abc.get(section, {})}
        own = whole.get(section, {})
        if hasattr(own, "model_dump"):
            own = own.model_dump(exclude_unset=True)
        if isinstance(own, Mapping):  # anything else is refused where it is read
            whole[section] = {**values, **own}
    return whole


def _kind_of(data: Any) -> Any:
    return data.get("kind") if isinstance(data, Mapping) else getattr(data, "kind", None)
