"""One ``solve``, which picks the solver and names it."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, Protocol, get_args, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ctrak_jax.fisher.cg import conjugate_gradient, worst
from ctrak_jax.fisher.direct import Spectrum, cholesky, dual, smaller, spectrum
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
    """The solver for n features of length k within so many bytes.

    The float64 spectrum where it is cheap, then a factor of the smaller side, then the matrix-free
    one. A factor keeps the matrix, the matrix plus lambda I and the triangle: 12 side^2 bytes.
    """
    side = min(n, k)
    if side <= SPECTRUM_SIDE and 20 * n * k + 24 * side**2 <= memory:
        return "spectrum"
    if n >= k and gram_fits(k, memory):
        return "cholesky"
    if n < k and 4 * n * k + 12 * n**2 <= memory:
        return "dual"
    return "cg"


def gram_fits(k: int, memory: int = MEMORY) -> bool:
    """Can G and its factor be held in so many bytes?"""
    return 12 * k**2 <= memory


@runtime_checkable
class Solution(Protocol):
    """Solved queries.

    Attributes:
        solver: which one ran.
        products: passes over the features that an iterative one took.
        residual: ``||phi - (G + lambda I) z|| / ||phi||``, the largest of all queries, by damping;
            empty for the float64 spectrum.
        shape: (damping values, queries).
    """

    @property
    def solver(self) -> Solver: ...

    @property
    def products(self) -> int: ...

    @property
    def residual(self) -> tuple[float, ...]: ...

    @property
    def shape(self) -> tuple[int, int]: ...

    def scores(self, rows: Rows) -> Iterator[Block]:
        """phi_q^T (G + lambda I)^-1 phi_i: float32 [damping, query, sample], block by block."""
        ...


class Vectors(NamedTuple):
    """A solution by z of equation (5.10)."""

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


class Diagonal(NamedTuple):
    """A solution in the eigenbasis: equation (5.14), float64 inside."""

    spectrum: Spectrum
    right: Float[np.ndarray, "query side"]
    multiples: tuple[float, ...]

    products = 0
    residual = ()

    @property
    def solver(self) -> Solver:
        return "spectrum"

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.multiples), len(self.right)

    def scores(self, rows: Rows) -> Iterator[Block]:
        values, vectors, is_dual, trace, k = self.spectrum
        lams = [damping(trace, k, multiple) for multiple in self.multiples]
        for block in rows.blocks():
            part = slice(block.rows.start, block.rows.stop)
            # Everything but the diagonal is shared by the damping values.
            left = vectors[part] if is_dual else np.asarray(block.features, np.float64) @ vectors
            scores = [((self.right / (values + lam)) @ left.T).astype(np.float32) for lam in lams]
            yield Block(block.rows, np.stack(scores))


class Single(NamedTuple):
    """A solution at one damping value, float64 inside: equation (5.14) needs no eigenvectors where
    its diagonal is used once.

    Attributes:
        solved: (Phi Phi^T + lambda I)^-1 Phi phi where ``dual``, else (G + lambda I)^-1 phi.
    """

    solved: Float[np.ndarray, "query side"]
    dual: bool

    products = 0
    residual = ()

    @property
    def solver(self) -> Solver:
        return "spectrum"

    @property
    def shape(self) -> tuple[int, int]:
        return 1, len(self.solved)

    def scores(self, rows: Rows) -> Iterator[Block]:
        for block in rows.blocks():
            if self.dual:
                found = self.solved[:, block.rows.start : block.rows.stop]
            else:
                found = self.solved @ np.asarray(block.features, np.float64).T
            yield Block(block.rows, found.astype(np.float32)[None])


def _in_float64(
    features: np.ndarray, queries: np.ndarray, multiples: Sequence[float]
) -> Diagonal | Single:
    """By the spectrum of the smaller side, or by one factor of it for one damping value."""
    n, k = features.shape
    right = queries @ np.asarray(features, np.float64).T if n < k else queries
    if len(multiples) > 1:
        found = spectrum(features)
        _refuse_zero(found.trace)
        return Diagonal(found, right @ found.vectors, tuple(multiples))
    matrix = smaller(features)
    trace = float(np.trace(matrix))
    _refuse_zero(trace)
    matrix[np.diag_indices_from(matrix)] += damping(trace, k, multiples[0])
    return Single(np.linalg.solve(matrix, right.T).T, n < k)


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

    Args:
        rows: the features Phi.
        queries: phi, one per row.
        multiples: values of r.
        solver: ``auto`` takes what :func:`choose` says.
        memory: bytes it may use.
        tolerance: relative residual that ``cg`` iterates to. At r = 0.01 float32 reaches 1e-4 to
            1e-3, whichever the solver.
        limit: of the passes of ``cg`` over Phi.

    Warns:
        RuntimeWarning: a residual above ``tolerance``; names the damping multiples.

    Raises:
        ArithmeticError: all features are zero, or G + lambda I is not positive definite in float32
            (``cholesky`` and ``dual`` with too small a multiple).
    """
    chosen = choose(rows.n, rows.k, memory) if solver == "auto" else solver
    if chosen == "spectrum":
        return _in_float64(np.asarray(rows.whole()), np.asarray(queries, np.float64), multiples)
    queries = jnp.asarray(queries, jnp.float32)

    def product(v: Array) -> Array:
        return rows.total(normal_product, v)

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
    solver: Solver,
    multiples: Sequence[float],
    residual: np.ndarray,
    products: int,
    tolerance: float,
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
