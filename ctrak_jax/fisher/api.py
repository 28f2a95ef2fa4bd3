"""One ``solve``, which picks the solver and names it."""

import math
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
from ctrak_jax.fisher.rows import (
    Block,
    Rows,
    Scaled,
    inner,
    magnitudes,
    normal_product,
    outer,
    squares,
)
from ctrak_jax.typing import Array

Solver = Literal["spectrum", "cholesky", "dual", "cg"]
SOLVERS: tuple[Solver, ...] = get_args(Solver)
SPECTRUM_SIDE = 4096
"""Largest min(n, k) that is diagonalised: 4,096 takes about a minute on two CPU cores."""
MEMORY = 4 * 2**30
"""Bytes that a solve takes unless told otherwise."""
UNSOLVED = 0.1
"""A relative residual above this is no solution."""
MAGNITUDES = (1e-12, 1e12)
"""Features and queries of mean magnitudes between these are squared as they are in float32."""


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
        scale: the power of two that z has all features multiplied by.
        unit: the power of two that z has each query divided by [query], or 1.
    """

    solver: Solver
    z: Float[Array, "damping query proj"]
    products: int
    residual: tuple[float, ...]
    scale: float = 1.0
    unit: Float[np.ndarray, "query 1"] | float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        return self.z.shape[0], self.z.shape[1]

    def scores(self, rows: Rows) -> Iterator[Block]:
        scaled, factor = _scaled(rows, self.scale), self.scale * np.asarray(self.unit)
        for block in scaled.each(inner, self.z.reshape(-1, rows.k)):
            found = np.asarray(block.features).T.reshape(*self.shape, -1)
            if np.any(factor != 1.0):
                found = (found * factor).astype(np.float32)
            yield Block(block.rows, found)

    def vectors(self) -> Float[np.ndarray, "damping query proj"]:
        return np.asarray(self.z, np.float64) * (self.scale**2 * np.asarray(self.unit))


class Exact(NamedTuple):
    r"""A solution in float64 by the smaller of G and Phi Phi^T, here the latter.

    .. math::
        \Phi (G + \lambda I)^{-1} \phi = U (S + \lambda)^{-1} U^\top \Phi\phi, \qquad
        \Phi\Phi^\top = U S U^\top                                                        \tag{5.14}

    Attributes:
        score: a block of features -> its scores.
        vectors: makes z of equation (5.10); of the dual by equation (5.13).
    """

    shape: tuple[int, int]
    score: Callable[[Block], Float[np.ndarray, "damping query sample"]]
    vectors: Callable[[], Float[np.ndarray, "damping query proj"]]
    solver: Solver = "spectrum"
    products: int = 0
    residual: tuple[float, ...] = ()

    def scores(self, rows: Rows) -> Iterator[Block]:
        for block in rows.blocks():
            yield Block(block.rows, self.score(block))


Solution = Vectors | Exact
"""Solved queries, with their ``shape`` (damping values, queries). ``scores`` gives
phi_q^T (G + lambda I)^-1 phi_i block by block: float32 [damping, query, sample]. ``vectors`` gives
z = (G + lambda I)^-1 phi_q: float64 [damping, query, proj]."""


def _in_float64(features: np.ndarray, queries: np.ndarray, multiples: Sequence[float]) -> Exact:
    """By equation (5.14); one damping value takes one factor and no eigenvectors."""
    phi, is_dual = np.asarray(features, np.float64), len(features) < features.shape[1]
    matrix, right = (phi @ phi.T, queries @ phi.T) if is_dual else (phi.T @ phi, queries)
    trace = float(np.trace(matrix))
    _refuse_zero(trace)
    lams = [float(damping(trace, phi.shape[1], multiple)) for multiple in multiples]

    def remaining(solved: np.ndarray, lam: float) -> float:
        left = np.linalg.norm(right - solved @ matrix - lam * solved, axis=1)
        norms = np.linalg.norm(right, axis=1)
        return float((left / np.where(norms > 0, norms, 1.0)).max(initial=0.0))

    if len(lams) == 1:
        matrix[np.diag_indices_from(matrix)] += lams[0]
        try:
            solved = np.linalg.solve(matrix, right.T).T
            residual = [remaining(solved, 0.0)]
        except np.linalg.LinAlgError:  # singular also in float64
            solved, residual = np.zeros_like(right), [np.inf]

        def score(block: Block) -> np.ndarray:
            if is_dual:
                found = solved[:, block.rows.start : block.rows.stop]
            else:
                found = solved @ np.asarray(block.features, np.float64).T
            return found.astype(np.float32)[None]

        def solutions() -> list[np.ndarray]:
            return [solved]

    else:
        import scipy.linalg

        values, vectors = scipy.linalg.eigh(matrix)
        values, turned = np.maximum(values, 0.0), right @ vectors
        residual = [remaining((turned / (values + lam)) @ vectors.T, lam) for lam in lams]

        def score(block: Block) -> np.ndarray:
            # Everything but the diagonal is shared by the damping values.
            if is_dual:
                left = vectors[block.rows.start : block.rows.stop]
            else:
                left = np.asarray(block.features, np.float64) @ vectors
            found = [((turned / (values + lam)) @ left.T).astype(np.float32) for lam in lams]
            return np.stack(found)

        def solutions() -> list[np.ndarray]:
            return [(turned / (values + lam)) @ vectors.T for lam in lams]

    def all_vectors() -> np.ndarray:
        found = solutions()
        if is_dual:
            found = [
                (queries - inside @ phi) / lam for inside, lam in zip(found, lams, strict=True)
            ]
        return np.stack(found)

    _judge("spectrum", multiples, np.array(residual), 0, 1e-3)
    return Exact((len(lams), len(queries)), score, all_vectors, residual=tuple(residual))


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

    A residual above ``tolerance`` is a RuntimeWarning, one above ``UNSOLVED`` an error.

    Args:
        rows: the features Phi.
        queries: phi, one per row.
        multiples: values of r.
        solver: ``auto`` takes what :func:`choose` says.
        memory: bytes it may use.
        tolerance: relative residual that ``cg`` stops at. float32 reaches 1e-4 to 1e-3 at r = 0.01.
        limit: of the passes of ``cg`` over Phi.

    Raises:
        ArithmeticError: all features are zero, G + lambda I is not positive definite in float32, or
            a residual is above ``UNSOLVED``.
    """
    chosen = choose(rows.n, rows.k, memory) if solver == "auto" else solver
    if chosen == "spectrum":
        return _in_float64(np.asarray(rows.whole()), np.asarray(queries, np.float64), multiples)
    (scale, diagonal), unit = _squared(rows), _unit_of(queries)
    rows, queries = _scaled(rows, scale), jnp.asarray(np.asarray(queries) / unit, jnp.float32)
    product, trace = partial(rows.total, normal_product), float(diagonal.sum())
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
    return Vectors(chosen, z, products, tuple(map(float, residual)), scale, unit)


def _scaled(rows: Rows, scale: float) -> Rows:
    return rows if scale == 1.0 else Scaled(rows, scale)


class Squared(NamedTuple):
    """What features are scaled by so that float32 holds their squares, and the sums of these."""

    scale: float
    diagonal: Float[Array, " proj"]


def _squared(rows: Rows) -> Squared:
    """At scale 1, or where their squares leave float32, at a power of two that brings the mean
    magnitude of the features to about 1."""
    size, (least, most) = rows.n * rows.k, MAGNITUDES
    diagonal = rows.total(squares, None)
    mean = float(diagonal.sum()) / size
    if least**2 < mean < most**2:
        return Squared(1.0, diagonal)
    first = 0 if mean < 1 else -64  # the sum of huge ones would overflow, too
    mean = float(_scaled(rows, 2.0**first).total(magnitudes, None).sum()) / size
    _refuse_zero(mean)
    scale = 2.0 ** min(max(first - round(math.log2(mean)), -126), 126)
    return Squared(scale, _scaled(rows, scale).total(squares, None))


def _unit_of(queries: Float[Array, "query proj"]) -> Float[np.ndarray, "query 1"]:
    """By query 1, or where its squares leave float32, about its largest value."""
    largest = np.abs(np.asarray(queries, np.float64)).max(axis=1, keepdims=True)
    least, most = MAGNITUDES
    needed = ((largest > 0) & (largest <= least)) | (largest >= most)
    return 2.0 ** np.where(needed, np.rint(np.log2(np.where(needed, largest, 1.0))), 0.0)


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
            f"{bad}; use larger ones, or the solver spectrum."
        )
    spent = f" after {products} products" if products else ""
    named = {r: float(f"{s:.2g}") for r, s in zip(multiples, residual, strict=True)}
    unsolved = {r: size for r, size in named.items() if size > UNSOLVED}
    if unsolved:
        other = "" if solver == "spectrum" else ", or the solver spectrum"
        raise ArithmeticError(
            f"{solver}: relative residuals {unsolved} (by damping multiple){spent} are above "
            f"{UNSOLVED:g}, which is no solution; use larger dampings{other}."
        )
    far = {r: size for r, size in named.items() if size > tolerance}
    if far:
        warnings.warn(
            f"{solver}: relative residuals {far} (by damping multiple) are above "
            f"{tolerance:g}{spent}; a larger damping converges sooner.",
            RuntimeWarning,
            stacklevel=3,
        )
