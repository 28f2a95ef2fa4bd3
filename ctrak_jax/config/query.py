"""The queries."""

import difflib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ctrak_jax.config.base import DISTINCT, FILLED, Natural, NullByName, Positive, Section, Seed

REWARDS = ("slider", "classifier", "similarity", "python")
"""What the question's reward may be (:mod:`ctrak_jax.rewards`)."""


def kind_of(spec: str) -> tuple[str, str]:
    """KIND and PLACE of a reward's name."""
    kind, _, place = spec.partition(":")
    return kind, place


def _known_reward(spec: str) -> str:
    """``KIND`` or ``KIND:PLACE``."""
    kind, place = kind_of(spec)
    if kind not in REWARDS:
        near = difflib.get_close_matches(kind, REWARDS, 1)
        advice = f"did you mean {near[0]!r}" if near else f"use one of {list(REWARDS)}"
        raise ValueError(f"is no reward; {advice}")
    if kind == "slider" and place:
        raise ValueError("has a place, and slider has none; write slider")
    file, _, name = place.rpartition(":")
    if kind == "python" and not (file and name.isidentifier()):
        raise ValueError("names no function of a file; write python:FILE.py:function")
    return spec


class QueryConfig(Section):
    """The queries."""

    scopes: Annotated[tuple[Literal["local", "global"], ...], FILLED, DISTINCT] = (
        "local",
        "global",
    )
    """local: one image; global: the model's own samples under the condition."""
    per_combination: Natural = 8
    """Local queries per combination of attribute values."""
    validation: Natural = 4
    """Further in-distribution queries per combination, which only choose the damping."""
    combinations: Natural = 16
    """At most this many combinations of attribute values, in and out of distribution each."""
    trajectories: Natural = 16
    """Sampling trajectories per global query."""
    check: Literal["shapes", "none"] = "shapes"
    """How a generated image is checked for its concepts before it becomes a query."""
    attempts: Natural = 8
    """Images generated per query image before giving up."""
    sampling_guidance: float = Field(default=1.0, ge=0)
    """Guidance scale (negative condition: null) with which query images are generated; 1 for
    none."""
    guidance: float = Field(default=1.0, ge=0)
    """Guidance scale of the query's own inversion; 1 for none."""
    path: Literal["inversion", "resample"] = "inversion"
    """States of local queries on an inversion path: the image's inversion, or those of sampling it
    again from the noise of its seed, the number in its file's name (resample: abc)."""
    timesteps: Literal["all", "one"] = "all"
    """Timesteps of a repetition, or of a global trajectory: all, or one drawn at random."""
    eta: float = Field(default=0.0, ge=0)
    """DDIM's eta: the share of fresh noise in the query's inversion or its sampling again; 0.1 as
    published."""
    repetitions: Natural = 1
    """Inversions that a query is averaged over (1 is enough at eta 0)."""
    scale: Positive = 7.5
    """Slider scale lambda_c."""
    minus: Annotated[Literal["others", "other", "null"], NullByName] = "other"
    """The condition without the concept: the mean over all other values of its attribute, one of
    them, or the null value; of a text, their captions, or the caption without the value's words."""
    reward: Annotated[str, AfterValidator(_known_reward)] = "slider"
    """What the method `reward` asks with, beside Concept-TRAK's slider. It adds that method to
    `methods`. classifier: one that the run fits on its attributes; classifier:FILE: one of
    `ctrak reward fit`; similarity, or similarity:FOLDER: of picture and words, by CLIP
    (`similarity.clip`); python:FILE.py:function: a function of a picture; slider: no other."""
    masks: Path | None = None
    """Folder of masks, pictures of the query images' size named QUERY@PART.png: the concepts of the
    query image QUERY are also asked about the white part alone."""
    seed: Seed = 1_000_000
    """Seed of the generated query images."""
