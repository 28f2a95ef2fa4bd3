r"""The transpose of every projection: a direction among parameters from one among features.

With v = R z, a feature's inner product is one of gradients, for all of R's kinds:

.. math::
    \langle R^\top g, z \rangle = \langle g, R z \rangle                                  \tag{9.1}

R is made tile by tile, as for :func:`ctrak_jax.projection.project`, and is the same matrix.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ctrak_jax.precision import EXACT
from ctrak_jax.projection import factored, mask, sjlt, srht, xla
from ctrak_jax.projection.api import Projection, rows_per_step
from ctrak_jax.projection.reference import NONZEROS, block_rows
from ctrak_jax.projection.xla import signs, words
from ctrak_jax.typing import Array, Params

Rows = Callable[[Array], Float[Array, " row"]]
"""The number of a block -> its rows of R z."""


def transpose(
    z: Float[Array, " proj"],
    projection: Projection,
    *,
    d: int,
    first_row: int = 0,
    rows: int | None = None,
) -> Float[Array, " param"]:
    """d rows of R z, equation (9.1), in plain JAX whatever ``projection.implementation`` is.

    Args:
        z: one direction among features [k].
        projection: the matrix.
        d: how many rows of it.
        first_row: the first of them.
        rows: rows of R in all (default: first_row + d), as in
            :func:`ctrak_jax.projection.project`.

    Returns:
        v [param].

    Raises:
        ValueError: ``factored``, which goes by layer.
    """
    k, kind, seed = projection.k, projection.kind, projection.seed
    root = np.float32(np.sqrt(k))
    match kind:
        case "rademacher" | "gaussian":
            tile = rows_per_step(projection, jax.default_backend())
            return _over(_dense(z, kind, seed, tile), d, first_row, tile) / root
        case "srht":
            size = block_rows(k)
            return _over(_hadamard(z, seed, size), d, first_row, size) / root
        case "sjlt":
            block = k // NONZEROS
            return _over(_sparse(z, seed, block), d, first_row, block) / np.sqrt(
                np.float32(NONZEROS)
            )
        case "mask":
            return _chosen(z, projection, d, first_row, rows or first_row + d)
        case "factored":
            raise ValueError(
                "Projection.kind='factored' goes by layer; use transpose_leaves with the "
                "parameters as a pytree."
            )


def transpose_leaves(z: Float[Array, " proj"], like: Params, projection: Projection) -> Params:
    """R z as a pytree like the parameters: the transpose of
    :func:`ctrak_jax.projection.project_leaves`.

    Args:
        z: one direction among features [k].
        like: the parameters that R's rows stand for, or their shapes.
        projection: the matrix, of any kind.
    """
    leaves, tree = jax.tree.flatten(like)
    if projection.kind != "factored":
        whole = transpose(z, projection, d=sum(leaf.size for leaf in leaves))
        ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
        parts = jnp.split(whole, ends)
        found = [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
        return jax.tree.unflatten(tree, found)
    found, row = [], 0
    for leaf in leaves:
        if leaf.ndim == 2:
            part = factored.transpose_matrix(
                z, leaf.shape, k=projection.k, seed=projection.seed, first_row=row
            )
        else:
            dense = projection._replace(kind="rademacher")
            part = transpose(z, dense, d=leaf.size, first_row=row).reshape(leaf.shape)
        found.append(part)
        row += factored.rows_of(leaf.shape)
    return jax.tree.unflatten(tree, found)


def _over(part: Rows, d: int, first_row: int, block: int) -> Float[Array, " param"]:
    """Rows ``first_row`` to ``first_row + d``, made in blocks cut by absolute row number."""
    first, before = divmod(first_row, block)
    count = -(-(before + d) // block)
    numbers = jnp.uint32(first) + jnp.arange(count, dtype=jnp.uint32)
    return jax.lax.map(part, numbers).reshape(-1)[before : before + d]


def _dense(z: Array, kind: str, seed: int, tile: int) -> Rows:
    def rows(number: Array) -> Array:
        of = number * jnp.uint32(tile) + jnp.arange(tile, dtype=jnp.uint32)
        return jnp.matmul(xla.BLOCKS[kind](seed, of, z.shape[0]), z, precision=EXACT)

    return rows


def _hadamard(z: Array, seed: int, size: int) -> Rows:
    columns = jnp.arange(z.shape[0], dtype=jnp.uint32)
    sampled = words(seed, columns, jnp.zeros(1, jnp.uint32)).reshape(-1, size)

    def rows(number: Array) -> Array:
        parity = jax.lax.population_count(number & sampled)
        met = jnp.sum(signs(parity, jnp.uint32(31)) * z.reshape(sampled.shape), axis=0)
        of = number * jnp.uint32(size) + jnp.arange(size, dtype=jnp.uint32)
        random = signs(words(seed, of, jnp.ones(1, jnp.uint32))[:, 0], jnp.uint32(0))
        return srht.hadamard(met[None, None])[0, 0] * random

    return rows


def _sparse(z: Array, seed: int, block: int) -> Rows:
    k = z.shape[0]

    def rows(number: Array) -> Array:
        sign = signs(words(seed, number[None], jnp.arange(k, dtype=jnp.uint32))[0], jnp.uint32(0))
        order = sjlt.orders(seed, number, k).reshape(-1)
        return jnp.zeros(block).at[order].add(sign * z)

    return rows


def _chosen(
    z: Array, projection: Projection, d: int, first_row: int, rows: int
) -> Float[Array, " param"]:
    k, chosen = z.shape[0], projection.coordinates
    factor = np.float32(np.sqrt(rows / k) if chosen is None else 1.0)
    chosen = mask.coordinates(projection.seed, k, rows) if chosen is None else chosen
    first, last = np.searchsorted(chosen, [first_row, first_row + d])
    met = z[first:last].astype(jnp.float32) * factor
    return jnp.zeros(d).at[chosen[first:last] - first_row].set(met)
