r"""Influence of groups of samples: an artist's, a licence's, a source's (method.md, section 12;
NumPy, float64).

.. math::
    I(g, q) = \sum_{i \in g} I(i, q)                                                      \tag{12.1}

Scores come block by block and are not kept: :func:`start`, :func:`update`, :func:`finish`.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class FirstSamples(NamedTuple):
    """The first samples of every group, best first, ties to the lower index; -1 and minus infinity
    where a group has fewer."""

    samples: Int[np.ndarray, "query group rank"]
    score: Float[np.ndarray, "query group rank"]


class GroupSums(NamedTuple):
    """What is kept of the scores seen so far.

    Attributes:
        size: samples of every group.
        total: sums of their scores.
        squares: sums of the squares.
        first: the first samples of every group.
        top: the first of all samples, as those of one group.
    """

    size: Int[np.ndarray, " group"]
    total: Float[np.ndarray, "query group"]
    squares: Float[np.ndarray, "query group"]
    first: FirstSamples
    top: FirstSamples


class GroupInfluence(NamedTuple):
    """The influence of every group on every query.

    Attributes:
        size: samples of the group.
        total: equation (12.1).
        mean: total over size.
        reach: half the width of the mean's 95% interval, equation (12.2); NaN for one sample. That
            of the total is size times as wide.
        share: of the first k samples, equation (12.3).
        base_rate: share of all samples.
        first: the first samples of the group.
    """

    size: Int[np.ndarray, " group"]
    total: Float[np.ndarray, "query group"]
    mean: Float[np.ndarray, "query group"]
    reach: Float[np.ndarray, "query group"]
    share: Float[np.ndarray, "query group"]
    base_rate: Float[np.ndarray, " group"]
    first: FirstSamples


def start(queries: int, groups: int, *, depth: int, first: int) -> GroupSums:
    """Nothing seen yet.

    Args:
        queries: how many.
        groups: how many.
        depth: k of the share among the first k samples.
        first: how many samples are kept of every group.

    Raises:
        ValueError: one of them is below 1.
    """
    if min(queries, groups, depth, first) < 1:
        raise ValueError(f"got {queries=}, {groups=}, {depth=}, {first=}; each must be at least 1.")
    sums = np.zeros((queries, groups))
    return GroupSums(
        np.zeros(groups, np.int64),
        sums,
        sums.copy(),
        _nothing(queries, groups, first),
        _nothing(queries, 1, depth),
    )


def state_bytes(queries: int, groups: int, *, depth: int, first: int) -> int:
    """What :class:`GroupSums` of that size takes."""
    return 16 * queries * (groups * (first + 1) + depth) + 8 * groups


def update(
    sums: GroupSums,
    scores: Float[np.ndarray, "query sample"],
    groups: Int[np.ndarray, " sample"],
    offset: int,
) -> GroupSums:
    """Scores of further samples, taken in.

    Args:
        sums: of the samples before.
        scores: finite.
        groups: the number of each sample's group.
        offset: index of the first sample.
    """
    scores = np.asarray(scores, np.float64)
    count = len(sums.size)
    one = np.zeros(len(groups), np.intp)
    return GroupSums(
        sums.size + np.bincount(groups, minlength=count),
        sums.total + _by_group(scores, groups, count),
        sums.squares + _by_group(scores**2, groups, count),
        _merged(sums.first, scores, groups, offset),
        _merged(sums.top, scores, one, offset),
    )


def finish(sums: GroupSums, groups: Int[np.ndarray, " sample"]) -> GroupInfluence:
    r"""The influence of every group, with intervals by the moments of its scores.

    .. math::
        m_g \pm t_{0.975, n_g - 1} \frac{s_g}{\sqrt{n_g}}, \qquad
        s_g^2 = \frac{\sum_{i \in g} (I(i, q) - m_g)^2}{n_g - 1}                          \tag{12.2}

    .. math::
        \text{Share@}k(g, q) = \frac{1}{k} \sum_{j \le k} [\pi_j \in g]                   \tag{12.3}

    Args:
        sums: of all samples.
        groups: the number of every sample's group.

    Raises:
        ValueError: fewer samples than k, or a group without a sample.
    """
    from scipy.special import stdtrit  # loads slowly

    size, total, samples = sums.size, sums.total, int(sums.size.sum())
    depth = sums.top.samples.shape[-1]
    if depth > samples or not size.all():
        raise ValueError(f"got k={depth} and {size.min()} to {size.max()} of {samples} samples.")
    mean = total / size
    variance = np.maximum(sums.squares - total * mean, 0.0) / np.maximum(size - 1, 1)
    quantile = np.where(size > 1, stdtrit(np.maximum(size - 1, 1), 0.975), np.nan)
    found = np.stack(
        [np.bincount(groups[row], minlength=len(size)) for row in sums.top.samples[:, 0]]
    )
    return GroupInfluence(
        size,
        total,
        mean,
        quantile * np.sqrt(variance / size),
        found / depth,
        size / samples,
        sums.first,
    )


def _nothing(queries: int, groups: int, depth: int) -> FirstSamples:
    shape = (queries, groups, depth)
    return FirstSamples(np.full(shape, -1, np.int64), np.full(shape, -np.inf))


def _by_group(values: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    return np.stack([np.bincount(groups, weights=row, minlength=count) for row in values])


def _merged(
    best: FirstSamples, scores: np.ndarray, groups: np.ndarray, offset: int
) -> FirstSamples:
    """The first samples of every group among those before and these later ones."""
    samples, kept = best.samples.copy(), best.score.copy()
    for query, row in enumerate(scores):
        # Of equal scores the earlier sample is kept.
        new = np.flatnonzero(row > kept[query, groups, -1])
        _take_in(samples[query], kept[query], groups[new], row[new], new + offset)
    return FirstSamples(samples, kept)


def _take_in(
    samples: np.ndarray, kept: np.ndarray, groups: np.ndarray, scores: np.ndarray, new: np.ndarray
) -> None:
    """Put samples into the lists [group, rank] of one query, in place."""
    touched, depth = np.unique(groups), kept.shape[1]
    owner = np.concatenate([np.repeat(touched, depth), groups])
    score = np.concatenate([kept[touched].ravel(), scores])
    sample = np.concatenate([samples[touched].ravel(), new])
    order = np.lexsort((-score, owner))  # stable
    owner, score, sample = owner[order], score[order], sample[order]
    rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
    inside = rank < depth
    kept[owner[inside], rank[inside]] = score[inside]
    samples[owner[inside], rank[inside]] = sample[inside]
