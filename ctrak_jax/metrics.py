"""How good a ranking is, with confidence intervals (method.md, section 7; NumPy)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ctrak_jax.typing import Array


def precision_at_k(ranked: Array, relevant: Array, k: int) -> float:
    """Share of the first ``k`` ranked samples that are relevant: equation (7.1).

    Args:
        ranked: sample numbers, best first [rank].
        relevant: bool [sample].
    """
    if not 1 <= k <= len(ranked):
        raise ValueError(f"precision@{k} needs at least {k} ranked samples, got {len(ranked)}.")
    return float(np.mean(np.asarray(relevant)[np.asarray(ranked)[:k]]))


def rank_percentiles(scores: np.ndarray) -> np.ndarray:
    """Where every sample stands among all: 1 = top, 0 = bottom, ties by index [.., sample]."""
    order = np.argsort(-scores, axis=-1, kind="stable")
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(scores.shape[-1]), axis=-1)
    return 1.0 - places / max(scores.shape[-1] - 1, 1)


class Interval(NamedTuple):
    """A mean with its 95% bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(
    groups: Sequence[np.ndarray], replicates: int = 10_000, seed: int = 0
) -> Interval:
    """Mean of all values with a 95% percentile interval over two levels.

    Every replicate draws groups (training seeds) with replacement and, inside each, clusters
    (queries) with replacement: both kinds of variation count. With one group only queries vary.

    Args:
        groups: one array [cluster, value] or [cluster] per group.
    """
    if not groups or not all(np.size(group) for group in groups):
        raise ValueError(f"bootstrap needs values in every group, got {[len(g) for g in groups]}.")
    means = [np.asarray(g, float).reshape(len(g), -1).mean(1) for g in groups]
    rng = np.random.default_rng(seed)
    # One table of replicates per group; a replicate then picks among groups.
    drawn = np.stack(
        [m[rng.integers(len(m), size=(len(means), replicates, len(m)))].mean(-1) for m in means]
    )
    picks = rng.integers(len(means), size=(len(means), replicates))
    sampled = drawn[picks, np.arange(len(means))[:, None], np.arange(replicates)].mean(0)
    low, high = np.quantile(sampled, [0.025, 0.975])
    return Interval(float(np.mean([m.mean() for m in means])), float(low), float(high))
