r"""The ``rademacher`` projection as one Pallas kernel for NVIDIA GPUs (Triton): R is never stored.

A program holds the sums of ``COLUMNS`` columns for ``samples`` samples over one stretch of the rows
of R. One hash of (row, word) gives the signs of 32 neighbouring columns, equation (5.2). The
stretches fill the GPU where the columns alone would not; their sums are added outside, in order.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Float

from ctrak_jax.projection import kernels
from ctrak_jax.projection.reference import COLUMN_SALT, ROW_SALT, WORD, key
from ctrak_jax.projection.xla import mix, signs
from ctrak_jax.typing import Array

COLUMNS = 64
"""Columns a program holds."""
ROWS = 64
"""Rows of R per step."""
STRETCHES = 16
"""Parts that the rows are split into."""


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
    batch = min(64, max(16, pl.next_power_of_2(samples)))
    steps = pl.cdiv(pl.cdiv(d, STRETCHES), ROWS)
    grid = (pl.cdiv(samples, batch), pl.cdiv(k, COLUMNS), STRETCHES)
    shape = (STRETCHES, grid[0] * batch, grid[1] * COLUMNS)
    found = pl.pallas_call(
        partial(
            _kernel, samples=samples, d=d, seed=seed, first_row=first_row, batch=batch, steps=steps
        ),
        grid=grid,
        in_specs=[pl.BlockSpec(memory_space=pl.ANY)],
        out_specs=pl.BlockSpec((None, batch, COLUMNS), lambda s, c, r: (r, s, c)),
        out_shape=jax.ShapeDtypeStruct(shape, jnp.float32),
        compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=2),
        interpret=interpret,
    )(g)
    return found.sum(0)[:samples, :k] * np.float32(1.0 / np.sqrt(k))


def _kernel(
    g_ref, out_ref, *, samples: int, d: int, seed: int, first_row: int, batch: int, steps: int
) -> None:
    sample = pl.program_id(0) * batch
    word = pl.program_id(1) * (COLUMNS // WORD) + jnp.arange(COLUMNS // WORD, dtype=jnp.int32)
    first = pl.program_id(2) * (steps * ROWS)
    word_hash = mix(word.astype(jnp.uint32) ^ jnp.uint32(key(seed, COLUMN_SALT)))
    shifts = (WORD - 1 - jnp.arange(WORD, dtype=jnp.int32)).astype(jnp.uint32)
    in_batch = sample + jnp.arange(batch, dtype=jnp.int32) < samples

    def step(i, total):
        start = first + i * ROWS
        row = start + jnp.arange(ROWS, dtype=jnp.int32)
        row_hash = mix((row + first_row).astype(jnp.uint32) ^ jnp.uint32(key(seed, ROW_SALT)))
        packed = mix(row_hash[:, None] ^ word_hash[None])
        sign = signs(packed[:, :, None], shifts[None, None]).astype(jnp.bfloat16)
        sign = sign.reshape(ROWS, COLUMNS)
        g = plgpu.load(
            g_ref.at[pl.ds(sample, batch), pl.ds(start, ROWS)],
            mask=in_batch[:, None] & (row < d)[None],
            other=0.0,
        )
        for part in kernels.bfloat16_parts(g):
            total += plgpu.dot(part, sign)
        return total

    zero = jnp.zeros((batch, COLUMNS), jnp.float32)
    out_ref[...] = jax.lax.fori_loop(0, steps, step, zero)
