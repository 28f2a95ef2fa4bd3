r"""Direct solves in float32: by a Cholesky factor of G, or of the n x n dual.

With fewer samples than coordinates the dual gives the same z,

.. math::
    z = \bigl(\phi - \Phi^\top (\Phi\Phi^\top + \lambda I)^{-1} \Phi\phi\bigr) / \lambda  \tag{5.13}
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve
from jaxtyping import Float

from ctrak_jax.fisher.gram import Gram, damping
from ctrak_jax.fisher.rows import normal_product
from ctrak_jax.precision import EXACT
from ctrak_jax.typing import Array


def cholesky(
    gram: Gram, phi: Float[Array, "query proj"], multiples: Sequence[float]
) -> Float[Array, "damping query proj"]:
    """z of equation (5.10) by a Cholesky factor of G + lambda I for each damping.

    NaN where that is not positive definite in float32: a multiple must stand well above k times
    its rounding (1e-2 is safe for k up to a few thousand).
    """
    k = len(gram.matrix)
    return jnp.stack([_primal(gram.matrix, phi, damping(gram.trace, k, r)) for r in multiples])


def dual(
    features: Float[Array, "sample proj"],
    phi: Float[Array, "query proj"],
    multiples: Sequence[float],
) -> Float[Array, "damping query proj"]:
    """The same for fewer samples than coordinates: equation (5.13)."""
    features, k = jnp.asarray(features, jnp.float32), features.shape[1]
    kernel = jnp.matmul(features, features.T, precision=EXACT)
    lams = [damping(jnp.trace(kernel), k, multiple) for multiple in multiples]
    return jnp.stack([_dual(features, kernel, phi, lam) for lam in lams])


@jax.jit
def _primal(matrix: Array, phi: Array, lam: Array) -> Array:
    lower = jnp.linalg.cholesky(matrix + lam * jnp.eye(len(matrix)))
    return _refined(
        lambda right: cho_solve((lower, True), right.T).T,
        lambda z: jnp.matmul(z, matrix, precision=EXACT) + lam * z,
        phi,
    )


@jax.jit
def _dual(features: Array, kernel: Array, phi: Array, lam: Array) -> Array:
    lower = jnp.linalg.cholesky(kernel + lam * jnp.eye(len(kernel)))

    def solve(right: Array) -> Array:
        seen = jnp.matmul(right, features.T, precision=EXACT)
        inside = cho_solve((lower, True), seen.T).T
        return (right - jnp.matmul(inside, features, precision=EXACT)) / lam

    return _refined(solve, lambda z: normal_product(z, features) + lam * z, phi)


def _refined(solve: Callable[[Array], Array], apply: Callable[[Array], Array], b: Array) -> Array:
    """Two steps of iterative refinement: in the dual the difference of equation (5.13) cancels."""
    z = solve(b)
    for _ in range(2):
        z += solve(b - apply(z))
    return z
