r"""The ``rademacher`` projection as one Pallas kernel for TPUs: R is never stored.

A program holds the sums of ``WORDS`` words of columns, 32 columns a word, and walks down the rows
of R. One hash of (row, word) gives 32 signs, equation (5.2): bit b of all words is a matrix
of signs [rows, words], which the matrix unit multiplies at once, so that the hash is paid once in
32 columns and no bit ever changes its lane. Column 32 w + b of the result is found at [b, :, w] and
put in its place outside, [sample, k] numbers per call.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Float

from ctrak_jax.projection import kernels
from ctrak_jax.projection.reference import COLUMN_SALT, ROW_SALT, WORD, key
from ctrak_jax.projection.xla import mix, signs
from ctrak_jax.typing import Array

WORDS = 128
"""Words of columns a program holds: the lanes of the vector unit."""
ROWS = 512
"""Rows of R per step."""
SAMPLES = 128
"""Samples a program holds."""


def project(
    g: Float[Array, "sample param"],
    *,
    kind: str,
    k: int,
    seed: int,
    tile: int,
    first_row: int = 0,
    interpret: bool = False,
) -> Float[Array, "sample proj"]:
    """g R of float32 or bfloat16 gradients. ``tile`` has no effect; ``interpret`` runs on any
    backend, slowly, for tests."""
    kernels.refuse_others(kind, g.dtype)
    samples, d = g.shape
    words = k // WORD
    batch = min(SAMPLES, -(-samples // 16) * 16)
    grid = (pl.cdiv(samples, batch), pl.cdiv(words, WORDS), pl.cdiv(d, ROWS))
    semantics = ("parallel", "parallel", "arbitrary")
    found = pl.pallas_call(
        partial(_kernel, d=d, seed=seed, first_row=first_row),
        grid=grid,
        in_specs=[pl.BlockSpec((batch, ROWS), lambda s, w, r: (s, r))],
        out_specs=pl.BlockSpec((WORD, batch, WORDS), lambda s, w, r: (0, s, w)),
        out_shape=jax.ShapeDtypeStruct((WORD, grid[0] * batch, grid[1] * WORDS), jnp.float32),
        compiler_params=pltpu.CompilerParams(dimension_semantics=semantics),
        interpret=interpret,
    )(g)
    columns = found[:, :samples, :words].transpose(1, 2, 0)
    return columns.reshape(samples, k) * np.float32(1.0 / np.sqrt(k))


def _kernel(g_ref, out_ref, *, d: int, seed: int, first_row: int) -> None:
    row_block, word_block = pl.program_id(2), pl.program_id(1)

    @pl.when(row_block == 0)
    def _():
        out_ref[...] = jnp.zeros(out_ref.shape, jnp.float32)

    def numbers(first, shape: tuple[int, int], axis: int):
        counted = jax.lax.broadcasted_iota(jnp.int32, shape, axis) + first
        return counted.astype(jnp.uint32)

    rows = numbers(row_block * ROWS + first_row, (ROWS, 1), 0)
    words = numbers(word_block * WORDS, (1, WORDS), 1)
    row_hash = mix(rows ^ jnp.uint32(key(seed, ROW_SALT)))
    word = mix(row_hash ^ mix(words ^ jnp.uint32(key(seed, COLUMN_SALT))))

    # What lies beyond the last parameter is not zero: the block reads past the array.
    inside = numbers(row_block * ROWS, (1, ROWS), 1) < jnp.uint32(d)
    g = jnp.where(inside, g_ref[...], jnp.zeros((), g_ref.dtype))
    parts = _parts(g)
    for bit in range(WORD):
        sign = signs(word, jnp.uint32(WORD - 1 - bit)).astype(jnp.bfloat16)
        for part in parts:
            out_ref[bit] += jnp.dot(part, sign, preferred_element_type=jnp.float32)


def _parts(g: Array) -> list[Array]:
    """bfloat16 arrays whose sum is g, smallest first, as :func:`~ctrak_jax.projection.xla.project`
    has them on GPUs; in a kernel ``astype`` rounds, outside XLA may leave it out."""
    if g.dtype == jnp.bfloat16:
        return [g]
    parts = []
    for _ in range(3):
        part = g.astype(jnp.bfloat16)
        parts.append(part)
        g = g - part.astype(jnp.float32)
    return parts[::-1]
