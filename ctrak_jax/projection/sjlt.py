"""The ``sjlt`` projection: a sparse sign matrix, applied by gathering instead of scattering.

Equations (5.3) and (5.4). The s entries of a row lie in s blocks of columns, and the rows of a
group never meet: a group of gradients is put in a keyed order for each block, signed and added,
O(d s) in all. The one index array is that of a group, k numbers.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int32, UInt32

from ctrak_jax.projection.blocks import over_blocks
from ctrak_jax.projection.reference import NONZEROS, ROUNDS, sides
from ctrak_jax.projection.xla import mix, signs, words
from ctrak_jax.typing import Array


def project(
    g: Float[Array, "sample param"], *, k: int, seed: int, first_row: int = 0
) -> Float[Array, "sample proj"]:
    """g R in float32, a group per step: of a gather and a sum over groups XLA makes a loop over
    single numbers on CPUs, seven times slower at k = 4096."""
    columns = jnp.arange(k, dtype=jnp.uint32)

    def add(total: Array, group: Array, part: Array) -> Array:
        sign = signs(words(seed, group[None], columns)[0], jnp.uint32(0))
        # Samples innermost: what is gathered is a stretch of memory, not single numbers.
        order = orders(seed, group, k).reshape(-1)
        met = jnp.take(part.T, order, axis=0, mode="clip")
        return total + met * sign[:, None]

    total = jnp.zeros((k, g.shape[0]), jnp.float32)
    total = over_blocks(add, total, g, first_row=first_row, block=k // NONZEROS, count=1)
    return total.T * np.float32(1.0 / np.sqrt(NONZEROS))


def orders(seed: int, group: UInt32[Array, ""], k: int) -> Int32[Array, "block column"]:
    """Equation (5.3): the row of a group that each column of each block meets."""
    a, b = sides(k // NONZEROS)
    numbers = jnp.arange(k, k + NONZEROS * ROUNDS, dtype=jnp.uint32)
    keys = words(seed, group[None], numbers).reshape(NONZEROS, ROUNDS)
    column = jnp.arange(a * b, dtype=jnp.uint32)[None]
    left, right = column // b, column % b
    for t in range(ROUNDS):
        key = keys[:, t, None]
        if t % 2 == 0:
            left = _moved(left, mix(key ^ right), a)
        else:
            right = _moved(right, mix(key ^ left), b)
    return (left * b + right).astype(jnp.int32)


def _moved(x: Array, word: Array, n: int) -> Array:
    """x + a number below n made of the upper half of a word, modulo n."""
    moved = x + ((word >> 16) * n >> 16)
    return jnp.where(moved >= n, moved - n, moved)
