r"""The Fisher approximation over projected gradients and its solves (method, section 5).

.. math::
    G = \sum_i \phi_i \phi_i^\top,\qquad
    \lambda = 0.1\, r\, \mathrm{tr}(G) / k,\qquad (G + \lambda I)\, z = \phi                 \tag{9}

:class:`Gram` accumulates G over batches of features. One damping is solved by Cholesky; where there
are fewer samples than coordinates the n x n dual gives the same z,

.. math::
    z = \bigl(\phi - \Phi^\top (\Phi\Phi^\top + \lambda I)^{-1} \Phi\phi\bigr) / \lambda  \tag{10}

:func:`spectrum` diagonalises the smaller side once, in float64, and then gives the scores
:math:`\Phi z` for any number of damping values,

.. math::
    \Phi (G + \lambda I)^{-1} \phi = U\,(S + \lambda)^{-1} U^\top \Phi\phi,\quad
    \Phi\Phi^\top = U S U^\top                                                             \tag{11}
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Float, Int

from ctrak_jax.typing import Array

HIGHEST = jax.lax.Precision.HIGHEST


class Gram(NamedTuple):
    """G of equation (9) and the number of features in it."""

    matrix: Float[Array, "proj proj"]
    samples: Int[Array, ""]

    @property
    def trace(self) -> Float[Array, ""]:
        return jnp.trace(self.matrix)


def init(k: int) -> Gram:
    """An empty Gram matrix for features of length k."""
    return Gram(jnp.zeros((k, k), jnp.float32), jnp.int32(0))


def update(gram: Gram, features: Float[Array, "sample proj"]) -> Gram:
    """Add a batch of features, in float32 at the highest matmul precision."""
    features = features.astype(jnp.float32)
    product = jnp.matmul(features.T, features, precision=HIGHEST)
    return Gram(gram.matrix + product, gram.samples + features.shape[0])


def merge(grams: Sequence[Gram]) -> Gram:
    """The Gram of all samples from those of disjoint parts.

    Raises:
        ValueError: there is none.
    """
    if not grams:
        raise ValueError("merge needs at least one Gram, got none.")
    return jax.tree.map(lambda *parts: jnp.sum(jnp.stack(parts), axis=0), *grams)


def damping(trace: float | Array, k: int, multiple: float) -> float | Array:
    """lambda of equation (9)."""
    return 0.1 * multiple * trace / k


class Factor(NamedTuple):
    """A Cholesky factor with what the solve needs beside it.

    Attributes:
        lower: lower triangle L, of G + lambda I (primal) or of Phi Phi^T + lambda I (dual).
        features: Phi in the dual form, ``None`` in the primal.
        damping: lambda.
    """

    lower: Float[Array, "side side"]
    features: Float[Array, "sample proj"] | None
    damping: Float[Array, ""]


def factor(gram: Gram, multiple: float = 1.0) -> Factor:
    """Factor G + lambda I with lambda = 0.1 multiple tr(G) / k, for :func:`solve`.

    float32; a positive definite matrix needs ``multiple`` well above k times the float32 rounding
    (1e-2 is safe for k up to a few thousand). :func:`spectrum` works in float64.
    """
    k = gram.matrix.shape[0]
    lam = jnp.asarray(damping(gram.trace, k, multiple), jnp.float32)
    lower = jnp.linalg.cholesky(gram.matrix + lam * jnp.eye(k))
    return Factor(lower, None, lam)


def factor_dual(features: Float[Array, "sample proj"], multiple: float = 1.0) -> Factor:
    """The same for fewer samples than coordinates: equation (10), an n x n factor."""
    features = features.astype(jnp.float32)
    n, k = features.shape
    kernel = jnp.matmul(features, features.T, precision=HIGHEST)
    lam = jnp.asarray(damping(jnp.trace(kernel), k, multiple), jnp.float32)
    return Factor(jnp.linalg.cholesky(kernel + lam * jnp.eye(n)), features, lam)


def solve(factored: Factor, phi: Float[Array, "query proj"]) -> Float[Array, "query proj"]:
    """z of (G + lambda I) z = phi for every row of ``phi``."""
    lower, features, lam = factored
    if features is None:
        return jax.scipy.linalg.cho_solve((lower, True), phi.T).T
    right = jnp.matmul(features, phi.T, precision=HIGHEST)
    inner = jax.scipy.linalg.cho_solve((lower, True), right)
    return (phi - jnp.matmul(inner.T, features, precision=HIGHEST)) / lam


class Spectrum(NamedTuple):
    """Eigendecomposition of the smaller of G and Phi Phi^T, float64 on the host.

    Attributes:
        values: eigenvalues [side]. vectors: eigenvectors [side, side], by column.
        dual: the sample side was diagonalised. trace: tr(G). k: length of a feature.
    """

    values: np.ndarray
    vectors: np.ndarray
    dual: bool
    trace: float
    k: int


def spectrum(features: Float[np.ndarray, "sample proj"]) -> Spectrum:
    """Diagonalise once what every damping value needs: O(min(n, k)^3)."""
    phi = np.asarray(features, np.float64)
    n, k = phi.shape
    side = phi @ phi.T if n < k else phi.T @ phi
    values, vectors = scipy.linalg.eigh(side)
    return Spectrum(np.maximum(values, 0.0), vectors, n < k, float(np.trace(side)), k)


def damped_scores(
    spectrum: Spectrum,
    features: Float[np.ndarray, "sample proj"],
    queries: Float[np.ndarray, "query proj"],
    multiples: Sequence[float],
) -> Float[np.ndarray, "damping query sample"]:
    """phi_q^T (G + lambda I)^-1 phi_i for every damping multiple, query and sample: equation (11).

    float64 inside, float32 out.
    """
    phi, rhs = np.asarray(features, np.float64), np.asarray(queries, np.float64)
    # Everything but the diagonal is shared by the damping values.
    if spectrum.dual:
        left, right = spectrum.vectors, (rhs @ phi.T) @ spectrum.vectors
    else:
        left, right = phi @ spectrum.vectors, rhs @ spectrum.vectors
    scores = []
    for multiple in multiples:
        lam = damping(spectrum.trace, spectrum.k, multiple)
        scores.append(((right / (spectrum.values + lam)) @ left.T).astype(np.float32))
    return np.stack(scores)
