"""Sines and cosines that tell pretrained networks of noise levels and places."""

from typing import Any

import flax.linen as nn
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
    t: NoiseLevel, *, half: int = HALF, span: int | None = None
) -> Float[Array, " wave"]:
    """Cosines, then sines, of t at ``half`` frequencies 10000^(-k / span), span = half unless it is
    given. A Python number is taken in float64: float32 knows the phase of 3500 to 2e-4."""
    frequencies = BASE ** (-np.arange(half) / (half if span is None else span))
    if isinstance(t, int | float):
        exact = np.concatenate([np.cos(t * frequencies), np.sin(t * frequencies)])
        return jnp.asarray(exact, jnp.float32)
    angles = jnp.asarray(t, jnp.float32) * jnp.asarray(frequencies, jnp.float32)
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)])


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
