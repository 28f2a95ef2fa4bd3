"""Features of training samples as a solver needs them, and what is ranked by them.

Where the solver needs all features at once the first process reads them whole; otherwise every
process goes through its own share block by block, and the top lists are merged block by block and
then over processes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from ctrak_jax import devices, fisher, hosts, score
from ctrak_jax.errors import StoreError
from ctrak_jax.methods import ErrorWeight
from ctrak_jax.store import FeatureStore

BLOCK_BYTES = 2**25
"""Features are read from disk about so many bytes at a time."""

IN_MEMORY = ("spectrum", "dual")
"""Solvers that need all features at once."""


class TrainingFeatures(NamedTuple):
    """A method's features of training samples.

    Attributes:
        rows: the features.
        place: where they are kept, for messages.
        weights: of the samples [n], or none.
        solver: that they are held for.
    """

    rows: fisher.Rows
    place: str
    weights: np.ndarray | None
    solver: fisher.Solver

    @property
    def shared(self) -> bool:
        """Has every process a share of the rows, and a part in what is done with them?"""
        return isinstance(self.rows, devices.ShardedRows)


class Replacement(NamedTuple):
    """A store whose rows stand in for some of another, and the places they take, ascending."""

    store: FeatureStore
    rows: np.ndarray


def open_features(
    store: FeatureStore,
    mesh: Mesh,
    solver: fisher.Solver | None,
    error_weight: ErrorWeight | None = None,
    replacement: Replacement | None = None,
    memory: int | None = None,
) -> TrainingFeatures:
    """This process's share of a method's features, on disk.

    Args:
        store: complete.
        mesh: the devices.
        solver: what they are for; None for what suits their size.
        error_weight: how a sample's denoising errors weigh its score.
        replacement: rows of a control, which stand in for the store's own.
        memory: bytes that a solve may take, or what the devices have for it.
    """
    n, k = store.rows, store.width
    weights = None
    if error_weight:
        errors = store.read("errors")
        if replacement is not None:
            errors[replacement.rows] = replacement.store.read("errors")
        weights = np.asarray(score.error_weights(errors, error_weight))
    memory = devices.memory(mesh) if memory is None else memory
    chosen = fisher.choose(n, k, memory) if solver is None else solver
    chunk = len(store.chunks[0])
    size, part = rows_per_block(k, chunk), hosts.part(n, chunk)

    def blocks(part: range) -> Iterator[fisher.Block]:
        if replacement is not None:
            return replaced(store, replacement, size, part)
        return (fisher.Block(*block) for block in store.blocks("features", size, part))

    rows = devices.ShardedRows(
        mesh,
        n,
        k,
        blocks,
        block=size,
        resident=chosen == "cg" and 4 * len(part) * k <= memory * mesh.size // 2,
        part=part,
    )
    return TrainingFeatures(rows, str(store.place), weights, chosen)


def in_memory(features: TrainingFeatures) -> TrainingFeatures:
    """The features as their solver needs them: all in memory where it works on them at once."""
    if features.solver in IN_MEMORY:
        return features._replace(rows=fisher.Matrix(features.rows.whole()))
    return features


def rows_per_block(k: int, chunk: int) -> int:
    """Whole chunks of about ``BLOCK_BYTES``."""
    return max(BLOCK_BYTES // (4 * k * chunk), 1) * chunk


def replaced(
    store: FeatureStore, replacement: Replacement, size: int, part: range
) -> Iterator[fisher.Block]:
    """The features of ``part`` in blocks of about ``size`` rows, those of the replacement read
    beside them."""
    changed = replacement.rows
    first, last = np.searchsorted(changed, [part.start, part.stop])
    others = replacement.store.blocks("features", size, range(first, last))
    new = np.empty((0, 0), np.float32)
    for rows, features in store.blocks("features", size, part):
        inside = changed[(changed >= rows.start) & (changed < rows.stop)]
        while len(inside):
            if not len(new):
                _, new = next(others)
            count = min(len(inside), len(new))
            features[inside[:count] - rows.start] = new[:count]
            inside, new = inside[count:], new[count:]
        yield fisher.Block(rows, features)


def solve(
    features: TrainingFeatures, queries: np.ndarray, multiples: Sequence[float]
) -> fisher.Solution:
    """Solved queries [query, k] by the solver that the features are held for.

    Raises:
        StoreError: all features are zero, or a damping is too small for the solver.
    """
    try:
        return fisher.solve(features.rows, queries, multiples, solver=features.solver)
    except ArithmeticError as error:
        raise StoreError(f"{features.place}: {error}") from None


def weighed_scores(features: TrainingFeatures, solution: fisher.Solution) -> Iterator[fisher.Block]:
    """Scores [damping, query, sample] of this process's samples, block by block."""
    for block in solution.scores(features.rows):
        scores = np.asarray(block.features)
        if features.weights is not None:
            scores = scores * features.weights[block.rows.start : block.rows.stop]
        yield fisher.Block(block.rows, scores)


class Ranked(NamedTuple):
    """Rankings [damping, query, rank] over all processes, and scores [damping, query, sample] of
    this one's samples, if kept."""

    ranking: score.Ranking
    scores: np.ndarray | None


def ranked(
    features: TrainingFeatures,
    solution: fisher.Solution,
    depth: int,
    *,
    keep: bool,
    advance: Callable[[int], Any] = lambda count: None,
) -> Ranked:
    """The ``depth`` best samples, merged block by block and over processes; ``advance`` is called
    with the number of samples in each block."""
    nothing = np.zeros((*solution.shape, 0), np.float32)
    empty = score.Ranking(nothing.astype(np.int32), nothing)
    best, kept = empty, [nothing]
    for block in weighed_scores(features, solution):
        scores = np.asarray(block.features)
        new = score.top_k(scores, min(depth, len(block.rows)))
        new = new._replace(samples=new.samples + block.rows.start)
        best = score.merge_top(best, new, depth)
        if keep:
            kept.append(scores)
        advance(len(block.rows))
    scores = np.concatenate(kept, axis=2) if keep else None
    if features.shared:
        found = score.Ranking(*(hosts.joined_up(np.asarray(part), 2) for part in best))
        best = score.merge_top(empty, found, depth)
    return Ranked(best, scores)
