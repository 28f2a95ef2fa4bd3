r"""The ``rademacher`` projection as one Pallas kernel for Hopper GPUs (Mosaic GPU): R is never
stored.

A program holds ``bits`` of the 32 columns of each of ``WORDS`` words, and walks down one stretch of
the rows of R. One hash of (row, word) gives all its signs, equation (5.2): bit b of all words is a
matrix of signs [words, rows] in registers, which the tensor cores multiply with the gradients in
shared memory, fetched some steps ahead. Column 32 w + b of the result is found at [b, w] and put in
its place outside.

The tensor cores truncate their running sums: these come out smaller, the more rows they hold. So a
stretch has at most ``STRETCH_ROWS`` rows, each bfloat16 part of the gradients has sums of its own,
and everything is added in float32 outside, a pass of ``STRETCHES`` at a time.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu
from jaxtyping import BFloat16, Float, UInt16, UInt32

from ctrak_jax.projection import kernels
from ctrak_jax.projection.blocks import over_blocks
from ctrak_jax.projection.reference import COLUMN_SALT, ROW_SALT, WORD, key
from ctrak_jax.projection.xla import bfloat16_parts, mix
from ctrak_jax.typing import Array

WORDS = 64
"""Words of a row of R that a program holds: the rows of its products."""
ROWS = 64
"""Rows of R per step."""
STRETCHES = 64
"""Programs side by side along the rows."""
STRETCH_ROWS = 16_384
"""Rows of R that one running sum holds, at most. Relative error on an H200: 1.6e-6 at 21,463 rows,
as of plain JAX; 5.1e-6 at 85,852."""
COLUMNS = 192
"""Columns of a product at most, samples times parts; more samples go in slices."""


class Tuning(NamedTuple):
    """How a program is cut.

    Attributes:
        bits: columns of every word that it holds; their sums stay in registers.
        stages: steps of gradients in shared memory.
    """

    bits: int
    stages: int


HOPPER = {
    24: Tuning(8, 4),  # 20 samples/s of float32 gradients at batch 8, 14 with 4 bits
    64: Tuning(4, 4),  # 33 at batch 21
    96: Tuning(4, 3),  # 39 at batch 32
    192: Tuning(2, 3),  # 42 at batch 64, 28 with 1 bit
}
"""Columns of a product, at most -> what was fastest on an H200 at d = 43,956,480, k = 32,768."""


def project(
    g: Float[Array, "sample param"],
    *,
    kind: str,
    k: int,
    seed: int,
    tile: int,
    first_row: int = 0,
    interpret: Any = None,
) -> Float[Array, "sample proj"]:
    """g R of float32 or bfloat16 gradients. ``tile`` has no effect; ``interpret`` takes the
    parameters of Mosaic GPU's interpreter, for tests on any backend."""
    kernels.refuse_others(kind, g.dtype)
    kernels.refuse_gpu(kernels.compute_capability())
    parts = 1 if g.dtype == jnp.bfloat16 else 3
    samples = g.shape[0]
    slices = pl.cdiv(samples, COLUMNS // parts)
    size = pl.cdiv(samples, slices)
    sums = partial(_sums, parts=parts, k=k, seed=seed, interpret=interpret)

    def add(total: Array, first: Array, rows: Array) -> Array:
        found = [sums(rows[i : i + size], first) for i in range(0, samples, size)]
        return total + jnp.concatenate(found)

    total = jnp.zeros((samples, k), jnp.float32)
    count = STRETCHES * STRETCH_ROWS
    total = over_blocks(add, total, g, first_row=first_row, block=1, count=count)
    return total * np.float32(1.0 / np.sqrt(k))


def _sums(
    g: Float[Array, "sample row"],
    first_row: UInt32[Array, ""],
    *,
    parts: int,
    k: int,
    seed: int,
    interpret: Any,
) -> Float[Array, "sample proj"]:
    """g times the signs of rows ``first_row`` on, for one pass and one slice."""
    samples, d = g.shape
    columns = max(16, pl.cdiv(parts * samples, 8) * 8)
    stretches = min(STRETCHES, pl.cdiv(d, ROWS))
    steps = pl.cdiv(pl.cdiv(d, stretches), ROWS)
    split = bfloat16_parts(g) if parts > 1 else [g.astype(jnp.bfloat16)]
    flat = jnp.concatenate(split)
    flat = jnp.pad(flat, ((0, columns - len(flat)), (0, stretches * steps * ROWS - d)))
    kernel = _kernel(columns, steps, stretches, pl.cdiv(k // WORD, WORDS), seed, interpret)
    return collect(kernel(first_row[None], flat), samples, parts, k)


def collect(
    found: Float[Array, "stretch bit word column"], samples: int, parts: int, k: int
) -> Float[Array, "sample proj"]:
    """Add stretches and parts, and put every column of R in its place."""
    ordered = found.sum(0)[:, : k // WORD, : parts * samples].transpose(2, 1, 0)
    return ordered.reshape(parts, samples, k).sum(0)


def packed_signs(
    row: UInt32[Array, "word row"], word: UInt32[Array, "word row"], seed: int
) -> UInt32[Array, "word row"]:
    """The words w of equation (5.2)."""
    row_hash = mix(row ^ jnp.uint32(key(seed, ROW_SALT)))
    return mix(row_hash ^ mix(word ^ jnp.uint32(key(seed, COLUMN_SALT))))


def sign_of(packed: UInt16[Array, "word row"], bit: int) -> BFloat16[Array, "word row"]:
    """+1 or -1 by a bit of half words, which becomes the sign bit of 1.0: 1.2 times faster than in
    whole words on an H200."""
    sign = (packed << jnp.uint16(15 - bit)) & jnp.uint16(0x8000)
    return lax.bitcast_convert_type(sign | jnp.uint16(0x3F80), jnp.bfloat16)


def _kernel(
    columns: int, steps: int, stretches: int, blocks: int, seed: int, interpret: Any
) -> Any:
    """The first row [1] and the parts of the gradients [column, row] -> sums
    [stretch, bit, word, column]."""
    bits, stages = next(tuning for most, tuning in HOPPER.items() if columns <= most)
    tiled = mosaic_gpu.TilingTransform((8, 64)), mosaic_gpu.SwizzleTransform(128)

    def body(first_ref, g_ref, out_ref, shared, barriers):
        walk = partial(_walk, first_ref, g_ref, out_ref, shared, barriers, steps, stages, seed)
        total = mosaic_gpu.WGMMAAccumulatorRef((WORDS, columns), jnp.float32)
        pl.run_scoped(walk, *[total] * bits)

    shared = mosaic_gpu.SMEM((stages, columns, ROWS), jnp.bfloat16, transforms=tiled)
    return mosaic_gpu.kernel(
        body,
        out_type=jax.ShapeDtypeStruct((stretches, WORD, blocks * WORDS, columns), jnp.float32),
        scratch_types=[shared, mosaic_gpu.Barrier(num_arrivals=1, num_barriers=stages)],
        grid=(blocks, WORD // bits, stretches),
        grid_names=("block", "group", "stretch"),
        interpret=interpret,
    )


def _walk(
    first_ref, g_ref, out_ref, shared, barriers, steps: int, stages: int, seed: int, *sums
) -> None:
    """One program: down the rows of its stretch."""
    block, group, stretch = (lax.axis_index(name) for name in ("block", "group", "stretch"))
    bits, start = len(sums), stretch * (steps * ROWS)
    first_row = start.astype(jnp.uint32) + first_ref[0]

    def fetch(step):
        slot = lax.rem(step, stages)
        rows = pl.ds(start + step * ROWS, ROWS)
        mosaic_gpu.copy_gmem_to_smem(g_ref.at[:, rows], shared.at[slot], barriers.at[slot])

    def counted(axis):
        shape, layout = (WORDS, ROWS), mosaic_gpu.Layout.WGMMA
        return mosaic_gpu.broadcasted_iota(jnp.uint32, shape, axis, layout=layout)

    for early in range(min(stages - 1, steps)):
        fetch(jnp.int32(early))
    word = counted(0) + (block * WORDS).astype(jnp.uint32)
    row_in_step = counted(1)

    def step(i, nothing):
        row = row_in_step + (first_row + (i * ROWS).astype(jnp.uint32))
        packed = packed_signs(row, word, seed) >> (group * bits).astype(jnp.uint32)
        packed = packed.astype(jnp.uint16)
        slot = lax.rem(i, stages)
        mosaic_gpu.barrier_wait(barriers.at[slot])
        for bit, total in enumerate(sums):
            mosaic_gpu.wgmma(total, sign_of(packed, bit), shared.at[slot].T)
        mosaic_gpu.wgmma_wait(0)
        later = i + (stages - 1)
        pl.when(later < steps)(lambda: fetch(later))
        return nothing

    lax.fori_loop(0, steps, step, None)
    for bit, total in enumerate(sums):
        place = out_ref.at[stretch, group * bits + bit, pl.ds(block * WORDS, WORDS), :]
        place[...] = total[...]
