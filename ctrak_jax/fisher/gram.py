"""The Gram matrix of equation (5.10), accumulated over batches of features."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from ctrak_jax.fisher.rows import outer
from ctrak_jax.typing import Array


class Gram(NamedTuple):
    """G of equation (5.10) and the number of features in it."""

    matrix: Float[Array, "proj proj"]
    samples: Int[Array, ""]

    @property
    def trace(self) -> Float[Array, ""]:
        return jnp.trace(self.matrix)


def init(k: int) -> Gram:
    """An empty Gram matrix for features of length k."""
    return Gram(jnp.zeros((k, k), jnp.float32), jnp.int32(0))


def update(gram: Gram, features: Float[Array, "sample proj"]) -> Gram:
    """Add a batch of features, in float32."""
    return Gram(gram.matrix + outer(None, features), gram.samples + features.shape[0])


def merge(grams: Sequence[Gram]) -> Gram:
    """The Gram of all samples from those of disjoint parts."""
    if not grams:
        raise ValueError("merge needs at least one Gram, got none.")
    return jax.tree.map(lambda *parts: jnp.sum(jnp.stack(parts), axis=0), *grams)


def damping(trace: float | Array, k: int, multiple: float | Array) -> float | Array:
    """lambda of equation (5.10)."""
    return 0.1 * multiple * trace / k
