r"""Direct solves: Cholesky of G, of the n x n dual, and one eigendecomposition for every damping.

With fewer samples than coordinates the dual gives the same z,

.. math::
    z = \bigl(\phi - \Phi^\top (\Phi\Phi^\top + \lambda I)^{-1} \Phi\phi\bigr) / \lambda  \tag{5.13}

:func:`spectrum` diagonalises the smaller side once, in float64, and then gives the scores
:math:`\Phi z` for any number of damping values,

.. math::
    \Phi (G + \lambda I)^{-1} \phi = U (S + \lambda)^{-1} U^\top \Phi\phi, \qquad
    \Phi\Phi^\top = U S U^\top                                                            \tag{5.14}
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve
from jaxtyping import Float

from ctrak_jax.fisher.gram import Gram, damping
from ctrak_jax.fisher.rows import HIGHEST, normal_product
from ctrak_jax.typing import Array


def cholesky(
    gram: Gram, phi: Float[Array, "query proj"], multiples: Sequence[float]
) -> Float[Array, "damping query proj"]:
    """z of equation (5.10) by a Cholesky factor of G + lambda I for each damping.

    float32: a positive definite matrix needs a multiple well above k times the float32 rounding
    (1e-2 is safe for k up to a few thousand); NaN is returned where it is not.
    """
    k = len(gram.matrix)
    return jnp.stack([_primal(gram.matrix, phi, damping(gram.trace, k, r)) for r in multiples])


def dual(
    features: Float[Array, "sample proj"],
    phi: Float[Array, "query proj"],
    multiples: Sequence[float],
) -> Float[Array, "damping query proj"]:
    """The same for fewer samples than coordinates: equation (5.13), an n x n factor for
    each damping."""
    features, k = jnp.asarray(features, jnp.float32), features.shape[1]
    kernel = jnp.matmul(features, features.T, precision=HIGHEST)
    lams = [damping(jnp.trace(kernel), k, multiple) for multiple in multiples]
    return jnp.stack([_dual(features, kernel, phi, lam) for lam in lams])


@jax.jit
def _primal(matrix: Array, phi: Array, lam: Array) -> Array:
    lower = jnp.linalg.cholesky(matrix + lam * jnp.eye(len(matrix)))
    return _refined(
        lambda right: cho_solve((lower, True), right.T).T,
        lambda z: jnp.matmul(z, matrix, precision=HIGHEST) + lam * z,
        phi,
    )


@jax.jit
def _dual(features: Array, kernel: Array, phi: Array, lam: Array) -> Array:
    lower = jnp.linalg.cholesky(kernel + lam * jnp.eye(len(kernel)))

    def solve(right: Array) -> Array:
        seen = jnp.matmul(right, features.T, precision=HIGHEST)
        inside = cho_solve((lower, True), seen.T).T
        return (right - jnp.matmul(inside, features, precision=HIGHEST)) / lam

    return _refined(solve, lambda z: normal_product(z, features) + lam * z, phi)


def _refined(solve: Callable[[Array], Array], apply: Callable[[Array], Array], b: Array) -> Array:
    """Two steps of iterative refinement: in the dual the difference of equation (5.13)
    cancels."""
    z = solve(b)
    for _ in range(2):
        z += solve(b - apply(z))
    return z


class Spectrum(NamedTuple):
    """Eigendecomposition of the smaller of G and Phi Phi^T, float64 on the host.

    Attributes:
        values: eigenvalues [side].
        vectors: eigenvectors [side, side], by column.
        dual: the sample side was diagonalised.
        trace: tr(G).
        k: length of a feature.
    """

    values: np.ndarray
    vectors: np.ndarray
    dual: bool
    trace: float
    k: int


def spectrum(features: Float[np.ndarray, "sample proj"]) -> Spectrum:
    """Diagonalise once what every damping value needs: O(min(n, k)^3)."""
    import scipy.linalg

    matrix = smaller(features)
    n, k = features.shape
    values, vectors = scipy.linalg.eigh(matrix)
    return Spectrum(np.maximum(values, 0.0), vectors, n < k, float(np.trace(matrix)), k)


def smaller(features: Float[np.ndarray, "sample proj"]) -> Float[np.ndarray, "side side"]:
    """Phi Phi^T for fewer samples than coordinates, else G: float64."""
    phi = np.asarray(features, np.float64)
    return phi @ phi.T if len(phi) < phi.shape[1] else phi.T @ phi
