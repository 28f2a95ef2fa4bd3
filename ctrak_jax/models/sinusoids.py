"""Sines and cosines that tell pretrained networks of noise levels and places."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ctrak_jax.typing import Array

BASE = 10_000.0
HALF = 128
"""Frequencies of a noise level."""

NoiseLevel = Float[Array, ""] | Int[Array, ""] | float | int
"""What a network is told of the noise: a timestep, or a real number."""


def level_waves(
    t: NoiseLevel, *, half: int = HALF, span: int | None = None, factor: float = 1.0
) -> Float[Array, " wave"]:
    """Cosines, then sines, of ``factor`` t at ``half`` frequencies 10000^(-k / span), span = half
    unless it is given.

    A Python number is taken in float64. Of an array the product with a frequency, whose rounding
    in float32 is a phase of up to 3e-5 at timestep 999, is taken in two parts: that of their first
    12 bits has no rounding.
    """
    frequencies = factor * BASE ** (-np.arange(half) / (half if span is None else span))
    if isinstance(t, int | float):
        angles = t * frequencies
        return jnp.asarray(np.concatenate([np.cos(angles), np.sin(angles)]), jnp.float32)
    mantissa, exponent = np.frexp(frequencies)
    coarse = np.ldexp(np.round(np.ldexp(mantissa, 12)), exponent - 12)
    rest = jnp.asarray(frequencies - coarse, jnp.float32)
    t = jnp.asarray(t, jnp.float32)
    first = jax.lax.reduce_precision(t, exponent_bits=8, mantissa_bits=11)
    large = first * jnp.asarray(coarse, jnp.float32)
    small = first * rest + (t - first) * jnp.asarray(frequencies, jnp.float32)
    cosines = jnp.cos(large) * jnp.cos(small) - jnp.sin(large) * jnp.sin(small)
    sines = jnp.sin(large) * jnp.cos(small) + jnp.cos(large) * jnp.sin(small)
    return jnp.concatenate([cosines, sines])


class Embedding(nn.Module):
    """Two linear layers with a SiLU between."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, " feature"]) -> Float[Array, " width"]:
        hidden = nn.silu(nn.Dense(self.width, dtype=self.dtype, name="linear_1")(x))
        return nn.Dense(self.width, dtype=self.dtype, name="linear_2")(hidden)


def place_table(
    rows: np.ndarray, columns: np.ndarray, width: int
) -> Float[np.ndarray, "row column width"]:
    """Features of every place: sines then cosines of its column, then of its row, at width / 4
    frequencies 10000^(-k / (width / 4)) each.

    Args:
        rows: places of the rows, whole numbers or not.
        columns: places of the columns.
        width: a multiple of 4.
    """
    frequencies = BASE ** (-np.arange(width // 4) / (width // 4))

    def waves(places: np.ndarray) -> np.ndarray:
        angles = places[:, None] * frequencies
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    shape = (len(rows), len(columns), width // 2)
    across = np.broadcast_to(waves(columns)[None], shape)
    down = np.broadcast_to(waves(rows)[:, None], shape)
    return np.concatenate([across, down], axis=-1).astype(np.float32)
