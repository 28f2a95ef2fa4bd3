"""The conditions without a concept: what its questions are asked against."""

import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ctrak_jax.stages.context import Context


class Told(NamedTuple):
    """A condition as values, and what a text-to-image network is told of them."""

    values: dict[str, str]
    prompt: str


def minus_of(ctx: Context, values: Mapping[str, str], attribute: str) -> list[Told]:
    """The conditions without the concept (config ``query.minus``): all other values of its
    attribute, one of them (fixed by the combination, uniform), or the null value."""
    others = [v for v in ctx.conditions.vocabulary[attribute] if v != values[attribute]]
    if ctx.config.query.minus == "null" or not others:
        rest = {name: value for name, value in values.items() if name != attribute}
        return [Told(rest, ctx.inputs.prompt_without(values, attribute))]
    if ctx.config.query.minus == "other":
        seed = zlib.crc32(f"{'-'.join(values.values())}/{attribute}".encode())
        others = [others[int(np.random.default_rng(seed).integers(len(others)))]]
    changed = [{**values, attribute: other} for other in others]
    return [Told(found, ctx.inputs.prompt(found)) for found in changed]


def in_common(told: Sequence[Told], attribute: str) -> dict[str, str]:
    """The one condition without the concept, or what several have in common: all but its value."""
    if len(told) == 1:
        return told[0].values
    return {name: value for name, value in told[0].values.items() if name != attribute}
