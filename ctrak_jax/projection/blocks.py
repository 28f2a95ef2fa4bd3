"""How a projection walks down the rows of R: in blocks cut by absolute row number, so that a matrix
does not depend on where a gradient is cut into leaves. What a block misses at an end is zero."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ctrak_jax.typing import Array


def over_blocks(
    add: Callable[[Array, Array, Array], Array],
    total: Array,
    g: Float[Array, "sample param"],
    *,
    first_row: int,
    block: int,
    count: int,
) -> Array:
    """Fold ``add(total, number of the first block, float32 [sample, whole blocks])`` over the
    gradients, in steps of ``count`` blocks of ``block`` rows; at the ends there may be fewer."""
    d, step = g.shape[1], block * count
    number, before = divmod(first_row, block)

    def part(first: int, last: int, before: int) -> Array:
        after = -(before + last - first) % block
        return jnp.pad(g[:, first:last].astype(jnp.float32), ((0, 0), (before, after)))

    head = min(block - before, d) if before else 0
    if head:
        total = add(total, jnp.uint32(number), part(0, head, before))
        number += 1

    def body(i: Array, total: Array) -> Array:
        columns = jax.lax.dynamic_slice_in_dim(g, head + i * step, step, axis=1)
        first = jnp.uint32(number) + i.astype(jnp.uint32) * jnp.uint32(count)
        return add(total, first, columns.astype(jnp.float32))

    full = (d - head) // step
    if full:
        total = jax.lax.fori_loop(0, full, body, total)
    done = head + full * step
    if done < d:
        total = add(total, jnp.uint32(number + full * count), part(done, d, 0))
    return total
