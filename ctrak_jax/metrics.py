"""How good a ranking is, with confidence intervals (method.md, section 7; NumPy)."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from ctrak_jax.typing import Array


def precision_at_k(ranked: Array, relevant: Array, k: int) -> float:
    """Share of the first ``k`` ranked samples that are relevant: equation (7.1).

    Args:
        ranked: sample numbers, best first [rank].
        relevant: bool [sample].

    Raises:
        ValueError: fewer than ``k`` samples are ranked.
    """
    if not 1 <= k <= len(ranked):
        raise ValueError(f"precision@{k} needs at least {k} ranked samples, got {len(ranked)}.")
    return float(np.mean(np.asarray(relevant)[np.asarray(ranked)[:k]]))


def recall_at_k(ranked: Array, relevant: Array, k: int) -> float:
    """Share of the relevant samples among the first ``k`` ranked ones: Found@k of equation (7.3).

    Args:
        ranked: sample numbers, best first [rank].
        relevant: bool [sample], true of at least one.

    Raises:
        ValueError: fewer than ``k`` samples are ranked, or none is relevant.
    """
    relevant = np.asarray(relevant)
    if not 1 <= k <= len(ranked):
        raise ValueError(f"recall@{k} needs at least {k} ranked samples, got {len(ranked)}.")
    if not relevant.any():
        raise ValueError(f"recall@{k} needs a relevant sample, there is none.")
    return float(relevant[np.asarray(ranked)[:k]].sum() / relevant.sum())


Among = Literal["all", "unlabelled", "labelled"]
"""Which candidates are ranked: all of them, those whose condition does not name the attribute asked
about (``data.unlabelled``), or those whose condition does."""


class HiddenFound(NamedTuple):
    """What one ranking finds to the depth ``k``, and the share of relevant candidates among those
    ranked. Among ``all`` the carriers that are not named are relevant, else all carriers."""

    among: Among
    k: int
    precision: float
    recall: float
    base_rate: float


def hidden_found(
    scores: np.ndarray, carries: np.ndarray, named: np.ndarray, depths: Sequence[int]
) -> Iterator[HiddenFound]:
    """How many carriers a ranking finds that their conditions do not name (method.md, section 13):
    equation (13.1) over all candidates; precision and recall among the unlabelled and the
    labelled.

    Nothing comes out of a part without a relevant candidate, nor of a depth beyond its size.

    Args:
        scores: of one question [sample].
        carries: do candidates carry the value asked about? bool [sample].
        named: does a candidate's condition name the attribute? bool [sample].
        depths: each at least 1.
    """
    ranked = np.argsort(-scores, kind="stable")
    parts: dict[Among, tuple[np.ndarray, np.ndarray]] = {
        "all": (np.ones_like(named), carries & ~named),
        "unlabelled": (~named, carries & ~named),
        "labelled": (named, carries & named),
    }
    for among, (part, relevant) in parts.items():
        found, size = ranked[part[ranked]], int(part.sum())
        for k in depths:
            if k <= size and relevant.any():
                precision = precision_at_k(found, relevant, k)
                recall = recall_at_k(found, relevant, k)
                yield HiddenFound(among, k, precision, recall, float(relevant.sum() / size))


def rank_percentiles(scores: np.ndarray) -> np.ndarray:
    """Where every sample stands among all: 1 = top, 0 = bottom, ties by index [.., sample]."""
    order = np.argsort(-scores, axis=-1, kind="stable")
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(scores.shape[-1]), axis=-1)
    return 1.0 - places / max(scores.shape[-1] - 1, 1)


class LabelShift(NamedTuple):
    """Mean rank percentiles (1 = top) of one question in the wrong-label control."""

    picture_only: float
    label_only: float


def label_shift(scores: np.ndarray, picture: np.ndarray, label: np.ndarray) -> LabelShift | None:
    """Where candidates stand that carry the value in the picture alone, and those that carry it in
    the label alone; None where there are none of either.

    Args:
        scores: of one question [sample].
        picture: does the picture carry the value? bool [sample].
        label: does the condition that it is featurized under? bool [sample].
    """
    only, other = picture & ~label, label & ~picture
    if not (only.any() and other.any()):
        return None
    percentile = rank_percentiles(scores)
    return LabelShift(float(percentile[only].mean()), float(percentile[other].mean()))


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
