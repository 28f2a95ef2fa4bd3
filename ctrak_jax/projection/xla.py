"""``rademacher`` and ``gaussian`` in plain JAX: a tile of rows of R is made, used and dropped."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt32

from ctrak_jax.precision import EXACT
from ctrak_jax.projection.blocks import over_blocks
from ctrak_jax.projection.reference import COLUMN_SALT, ROW_SALT, WORD
from ctrak_jax.typing import Array

Words = UInt32[Array, "..."]


def mix(h: Words) -> Words:
    """The finaliser f of equation (5.2)."""
    h = h ^ (h >> 16)
    h = h * jnp.uint32(0x85EBCA6B)
    h = h ^ (h >> 13)
    h = h * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)


def words(seed: int, rows: Words, columns: Words) -> Words:
    """w of equation (5.2) at rows x columns."""
    row_hash = mix(rows ^ mix(jnp.uint32(seed ^ ROW_SALT)))
    column_hash = mix(columns ^ mix(jnp.uint32(seed ^ COLUMN_SALT)))
    return mix(row_hash[:, None] ^ column_hash[None])


def signs(word: Words, shift: Words) -> Float[Array, "..."]:
    """+1 or -1 by bit 31 - ``shift`` of a word, which becomes the sign bit of 1.0."""
    bit = (word << shift) & jnp.uint32(0x80000000)
    return jax.lax.bitcast_convert_type(bit | jnp.uint32(0x3F800000), jnp.float32)


def _signs(seed: int, rows: Words, k: int) -> Float[Array, "row proj"]:
    packed = words(seed, rows, jnp.arange(k // WORD, dtype=jnp.uint32))
    shifts = jnp.arange(WORD - 1, -1, -1, dtype=jnp.uint32)
    return signs(packed[:, :, None], shifts[None, None]).reshape(rows.shape[0], k)


def normal(word: Words) -> Float[Array, "..."]:
    """The ``gaussian`` entry of a word."""
    uniform = ((word >> 9).astype(jnp.float32) + 0.5) / 2.0**23
    return np.float32(np.sqrt(2.0)) * jax.lax.erf_inv(2.0 * uniform - 1.0)


def _normals(seed: int, rows: Words, k: int) -> Float[Array, "row proj"]:
    return normal(words(seed, rows, jnp.arange(k, dtype=jnp.uint32)))


Block = Callable[[int, Words, int], Float[Array, "row proj"]]
BLOCKS: dict[str, Block] = {"rademacher": _signs, "gaussian": _normals}


def project(
    g: Float[Array, "sample param"], *, kind: str, k: int, seed: int, tile: int, first_row: int = 0
) -> Float[Array, "sample proj"]:
    """g R in tiles of ``tile`` rows of R from ``first_row`` on, accumulated in float32."""
    block = BLOCKS[kind]

    def add(total: Array, first: Array, part: Array) -> Array:
        rows = first + jnp.arange(part.shape[1], dtype=jnp.uint32)
        return total + jax.lax.dot(part, block(seed, rows, k), precision=EXACT)

    total = jnp.zeros((g.shape[0], k), jnp.float32)
    total = over_blocks(add, total, g, first_row=first_row, block=1, count=tile)
    return total * np.float32(1.0 / np.sqrt(k))
