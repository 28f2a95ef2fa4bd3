r"""The ``factored`` projection: two small matrices per linear layer instead of one large one.

The gradient of a linear layer is a matrix :math:`G` [in, out], a sum of outer products
:math:`A^\top D` of its inputs and output cotangents. With sign matrices P [in, a] and Q [out, b],
a b = k split closest to a square,

.. math::
    \phi = \sum_{\text{layers}} \mathrm{vec}(P^\top G Q) + R^\top g_{\text{others}}, \qquad
    P^\top G Q = (A P)^\top (D Q)                                                         \tag{5.9}

needs A and D alone: O(rows (in a + out b + k)) per layer, never G. All other parameters meet the
``rademacher`` matrix R. The layers have independent matrices, so inner products are unbiased;
their variance is that of a product of two sign projections, larger than ``rademacher``'s.
Source: Kronecker-structured projections as in Choe et al. 2024 (LoGra), with random P and Q.

All entries come from the counter hash, equation (5.2): every leaf, in flattening order, takes the
next rows of it, a matrix in rows for P, then out for Q.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ctrak_jax.precision import EXACT
from ctrak_jax.projection import xla
from ctrak_jax.projection.reference import WORD, sides
from ctrak_jax.typing import Array


def rows_of(shape: tuple[int, ...]) -> int:
    """How many rows of the counter hash a parameter of this shape takes."""
    return shape[0] + shape[1] if len(shape) == 2 else int(np.prod(shape))


def project_matrix(
    g: Float[Array, "*batch in out"], *, k: int, seed: int, first_row: int
) -> Float[Array, "*batch proj"]:
    """vec(P^T G Q) of a whole gradient: the reference for :func:`project_outer`."""
    p, q = _matrices(g.shape[-2], g.shape[-1], k, seed, first_row)
    found = jnp.einsum("ia,...io,ob->...ab", p, g, q, precision=EXACT)
    return found.reshape(*found.shape[:-2], k)


def transpose_matrix(
    z: Float[Array, " proj"], shape: tuple[int, int], *, k: int, seed: int, first_row: int
) -> Float[Array, "in out"]:
    """P Z Q^T for z = vec(Z): the transpose of :func:`project_matrix`."""
    p, q = _matrices(*shape, k, seed, first_row)
    return jnp.einsum("ia,ab,ob->io", p, z.reshape(sides(k)), q, precision=EXACT)


def project_outer(
    a: Float[Array, "*batch row in"],
    d: Float[Array, "*batch row out"],
    *,
    k: int,
    seed: int,
    first_row: int,
) -> Float[Array, "*batch proj"]:
    """vec(P^T A^T D Q), equation (5.9)."""
    p, q = _matrices(a.shape[-1], d.shape[-1], k, seed, first_row)
    left, right = jnp.matmul(a, p, precision=EXACT), jnp.matmul(d, q, precision=EXACT)
    found = jnp.einsum("...ra,...rb->...ab", left, right, precision=EXACT)
    return found.reshape(*found.shape[:-2], k)


def _matrices(rows_in: int, rows_out: int, k: int, seed: int, first_row: int) -> tuple:
    a, b = sides(k)

    def signs(rows: int, first: int, columns: int) -> Array:
        numbers = jnp.arange(rows, dtype=jnp.uint32) + jnp.uint32(first)
        whole = xla.BLOCKS["rademacher"](seed, numbers, -(-columns // WORD) * WORD)
        return whole[:, :columns] * np.float32(1.0 / np.sqrt(columns))

    return signs(rows_in, first_row, a), signs(rows_out, first_row + rows_in, b)
