r"""The ``srht`` projection: random signs, then chosen columns of a Hadamard matrix, O(d log B).

Equation (5.5), streamed in blocks of B rows: the popcount over a whole row number is that over its
high part, the number of the block, plus that over its low part, so that with the Walsh-Hadamard
transform H_B of B rows

.. math::
    \sqrt k \phi_j = \sum_h (-1)^{\mathrm{popcount}(w_j \wedge h)}
    \bigl(H_B D_h g_h\bigr)_{j \bmod B}                                                   \tag{5.6}

One transform of a block serves all columns, and column j reads it at j mod B: nothing is gathered.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ctrak_jax.precision import EXACT
from ctrak_jax.projection.blocks import over_blocks
from ctrak_jax.projection.reference import block_rows
from ctrak_jax.projection.xla import signs, words
from ctrak_jax.typing import Array

RADIX = 64
"""Side of the Hadamard matrices that a transform is made of: 23 ms in 334,784 rows of 32 samples at
B = 4096 on two cores, 61 by butterflies."""


def project(
    g: Float[Array, "sample param"], *, k: int, seed: int, tile: int, first_row: int = 0
) -> Float[Array, "sample proj"]:
    """g R in steps of at most ``tile`` rows, or of one block, accumulated in float32."""
    size = block_rows(k)
    sampled = words(seed, jnp.arange(k, dtype=jnp.uint32), jnp.zeros(1, jnp.uint32))
    sampled = sampled.reshape(-1, size)

    def add(total: Array, block: Array, part: Array) -> Array:
        rows = block * jnp.uint32(size) + jnp.arange(part.shape[1], dtype=jnp.uint32)
        random = signs(words(seed, rows, jnp.ones(1, jnp.uint32))[:, 0], jnp.uint32(0))
        turned = hadamard((part * random[None]).reshape(part.shape[0], -1, size))
        blocks = block + jnp.arange(turned.shape[1], dtype=jnp.uint32)
        parity = jax.lax.population_count(blocks[:, None, None] & sampled[None])
        met = turned[:, :, None] * signs(parity, jnp.uint32(31))[None]
        return total + jnp.sum(met, axis=1)

    total = jnp.zeros((g.shape[0], k // size, size), jnp.float32)
    total = over_blocks(add, total, g, first_row=first_row, block=size, count=max(1, tile // size))
    return total.reshape(-1, k) * np.float32(1.0 / np.sqrt(k))


def hadamard(x: Float[Array, "sample block row"]) -> Float[Array, "sample block row"]:
    """The Walsh-Hadamard transform of every block: sum_i (-1)^popcount(c & i) x_i at c.

    The matrix is the Kronecker product of smaller ones, one for each group of bits of the row
    number: the rows become as many axes, each multiplied by its own.
    """
    sides: list[int] = []
    left = x.shape[2]
    while left > 1:
        sides.append(min(RADIX, left))
        left //= sides[-1]
    y = x.reshape(*x.shape[:2], *sides)
    for axis, side in enumerate(sides, 2):
        y = jax.lax.dot_general(y, _matrix(side), (((axis,), (0,)), ((), ())), precision=EXACT)
        y = jnp.moveaxis(y, -1, axis)
    return y.reshape(x.shape)


def _matrix(side: int) -> Float[np.ndarray, "side side"]:
    number = np.arange(side, dtype=np.uint32)
    parity = np.bitwise_count(number[:, None] & number[None]) & 1
    return (1.0 - 2.0 * parity).astype(np.float32)
