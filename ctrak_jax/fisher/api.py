"""One ``solve``, which picks the solver and names it."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ctrak_jax.fisher.cg import conjugate_gradient, worst
from ctrak_jax.fisher.direct import cholesky, dual
from ctrak_jax.fisher.gram import Gram, damping
from ctrak_jax.fisher.rows import Block, Rows, inner, normal_product, outer, squares
from ctrak_jax.typing import Array

Solver = Literal["spectrum", "cholesky", "dual", "cg"]
SOLVERS: tuple[Solver, ...] = get_args(Solver)
SPECTRUM_SIDE = 4096
"""Largest min(n, k) that is diagonalised: 4,096 takes about a minute on two CPU cores."""
MEMORY = 4 * 2**30
"""Bytes that a solve takes unless told otherwise."""


def choose(n: int, k: int, memory: int = MEMORY) -> Solver:
    """The solver for n features of length k within so many bytes: the float64 spectrum where it is
    cheap, then a factor of the smaller side, then the matrix-free one."""
    side = min(n, k)
    if side <= SPECTRUM_SIDE and 20 * n * k + 24 * side**2 <= memory:
        return "spectrum"
    if n >= k and gram_fits(k, memory):
        return "cholesky"
    if n < k and 4 * n * k + 12 * n**2 <= memory:
        return "dual"
    return "cg"


def gram_fits(k: int, memory: int = MEMORY) -> bool:
    """Can G be factored in so many bytes? That takes G, G + lambda I and the triangle."""
    return 12 * k**2 <= memory


class Vectors(NamedTuple):
    """A solution by z of equation (5.10).

    Attributes:
        solver: which one ran.
        products: passes over the features that an iterative one took.
        residual: ``||phi - (G + lambda I) z|| / ||phi||``, the largest of all queries, by damping.
    """

    solver: Solver
    z: Float[Array, "damping query proj"]
    products: int
    residual: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int]:
        return self.z.shape[0], self.z.shape[1]

    def scores(self, rows: Rows) -> Iterator[Block]:
        for block in rows.each(inner, self.z.reshape(-1, rows.k)):
            yield Block(block.rows, np.asarray(block.features).T.reshape(*self.shape, -1))


class Exact(NamedTuple):
    r"""A solution in float64 by the smaller of G and Phi Phi^T, here the latter.

    .. math::
        \Phi (G + \lambda I)^{-1} \phi = U (S + \lambda)^{-1} U^\top \Phi\phi, \qquad
        \Phi\Phi^\top = U S U^\top                                                        \tag{5.14}

    Attributes:
        score: a block of features -> its scores.
    """

    shape: tuple[int, int]
    score: Callable[[Block], Float[np.ndarray, "damping query sample"]]
    solver: Solver = "spectrum"
    products: int = 0
    residual: tuple[float, ...] = ()

    def scores(self, rows: Rows) -> Iterator[Block]:
        for block in rows.blocks():
            yield Block(block.rows, self.score(block))


Solution = Vectors | Exact
"""Solved queries, with their ``shape`` (damping values, queries). ``scores`` gives
phi_q^T (G + lambda I)^-1 phi_i block by block: float32 [damping, query, sample]."""


def _in_float64(features: np.ndarray, queries: np.ndarray, multiples: Sequence[float]) -> Exact:
    """By equation (5.14); one damping value takes one factor and no eigenvectors."""
    phi, is_dual = np.asarray(features, np.float64), len(features) < features.shape[1]
    matrix, right = (phi @ phi.T, queries @ phi.T) if is_dual else (phi.T @ phi, queries)
    trace = float(np.trace(matrix))
    _refuse_zero(trace)
    lams = [damping(trace, phi.shape[1], multiple) for multiple in multiples]
    if len(lams) == 1:
        matrix[np.diag_indices_from(matrix)] += lams[0]
        solved = np.linalg.solve(matrix, right.T).T

        def score(block: Block) -> np.ndarray:
            if is_dual:
                found = solved[:, block.rows.start : block.rows.stop]
            else:
                found = solved @ np.asarray(block.features, np.float64).T
            return found.astype(np.float32)[None]

    else:
        import scipy.linalg

        values, vectors = scipy.linalg.eigh(matrix)
        values, right = np.maximum(values, 0.0), right @ vectors

        def score(block: Block) -> np.ndarray:
            # Everything but the diagonal is shared by the damping values.
            if is_dual:
                left = vectors[block.rows.start : block.rows.stop]
            else:
                left = np.asarray(block.features, np.float64) @ vectors
            found = [((right / (values + lam)) @ left.T).astype(np.float32) for lam in lams]
            return np.stack(found)

    return Exact((len(lams), len(queries)), score)


def solve(
    rows: Rows,
    queries: Float[Array, "query proj"],
    multiples: Sequence[float],
    *,
    solver: Solver | Literal["auto"] = "auto",
    memory: int = MEMORY,
    tolerance: float = 1e-3,
    limit: int = 2000,
) -> Solution:
    """Solve equation (5.10) for every query and every damping multiple r.

    A residual above ``tolerance`` is a RuntimeWarning.

    Args:
        rows: the features Phi.
        queries: phi, one per row.
        multiples: values of r.
        solver: ``auto`` takes what :func:`choose` says.
        memory: bytes it may use.
        tolerance: relative residual that ``cg`` stops at. float32 reaches 1e-4 to 1e-3 at r = 0.01.
        limit: of the passes of ``cg`` over Phi.

    Raises:
        ArithmeticError: all features are zero, or G + lambda I is not positive definite in float32.
    """
    chosen = choose(rows.n, rows.k, memory) if solver == "auto" else solver
    if chosen == "spectrum":
        return _in_float64(np.asarray(rows.whole()), np.asarray(queries, np.float64), multiples)
    queries = jnp.asarray(queries, jnp.float32)
    product = partial(rows.total, normal_product)
    diagonal = rows.total(squares, None)
    trace = float(diagonal.sum())
    _refuse_zero(trace)
    lams = jnp.asarray([damping(trace, rows.k, r) for r in multiples], jnp.float32)
    if chosen == "cg":
        z, products, residual = conjugate_gradient(
            product, diagonal, queries, lams, tolerance=tolerance, limit=limit
        )
    else:
        if chosen == "cholesky":
            gram = Gram(rows.total(outer, None), jnp.int32(rows.n))
            z = cholesky(gram, queries, multiples)
        else:
            z = dual(rows.whole(), queries, multiples)
        products = 0
        applied = product(z.reshape(-1, rows.k)).reshape(z.shape)
        left = queries[None] - applied - lams[:, None, None] * z
        norms = jnp.linalg.norm(queries, axis=1)[None, :, None]
        residual = worst(left / jnp.where(norms > 0, norms, 1.0))
    _judge(chosen, multiples, residual, products, tolerance)
    return Vectors(chosen, z, products, tuple(map(float, residual)))


def _refuse_zero(trace: float) -> None:
    if not trace > 0:
        raise ArithmeticError(
            "All features are zero: there is no damping that scales with them. Train the model "
            "longer, or use another method."
        )


def _judge(
    solver: str, multiples: Sequence[float], residual: np.ndarray, products: int, tolerance: float
) -> None:
    bad = [r for r, size in zip(multiples, residual, strict=True) if np.isnan(size)]
    if bad:
        raise ArithmeticError(
            f"{solver}: G + lambda I is not positive definite in float32 at the damping multiples "
            f"{bad}; use larger ones, or the solver cg."
        )
    far = {r: float(f"{s:.2g}") for r, s in zip(multiples, residual, strict=True) if s > tolerance}
    if far:
        spent = f" after {products} products" if products else ""
        warnings.warn(
            f"{solver}: relative residuals {far} (by damping multiple) are above "
            f"{tolerance:g}{spent}; a larger damping converges sooner.",
            RuntimeWarning,
            stacklevel=3,
        )
