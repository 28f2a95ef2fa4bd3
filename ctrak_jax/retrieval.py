r"""How high a task's exemplars rank among all candidates (method.md, section 7; NumPy).

The candidates are the E exemplars, then N others; ties go to the lower index, so an exemplar goes
before any other candidate of its score. What follows depends on the exemplars' ranks r alone:

.. math::
    r_i = 1 + \sum_j [s_j \gt s_i] + \sum_{j \lt i} [s_j = s_i]                           \tag{7.2}
.. math::
    \text{Recall@}k = \frac{1}{\min(k, E)} \sum_i [r_i \le k], \qquad
    \text{Found@}k = \frac{1}{E} \sum_i [r_i \le k]                                       \tag{7.3}
.. math::
    \text{AP} = \frac{1}{E} \sum_i i / r_{(i)}, \qquad r_{(1)} \lt r_{(2)} \lt \dots      \tag{7.4}

so scores may come block by block and no ranking is ever made. Recall is what Concept-TRAK reports,
Found what AbC's own evaluation calls recall. The mean of equation (7.4) over tasks is the mean
average precision.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ctrak_jax.metrics import Interval, bootstrap_mean
from ctrak_jax.typing import Array

DEPTHS = (5, 10, 100)
"""The published depths of Recall@k."""
BLOCK = 1 << 18
"""Scores compared at a time."""


class Places(NamedTuple):
    """Ranks of a task's exemplars, 1 = best, ascending, among so many candidates in all."""

    ranks: np.ndarray
    candidates: int


class Retrieval(NamedTuple):
    """How well one task went: Recall@k and Found@k by depth, and average precision."""

    recall: dict[int, float]
    found: dict[int, float]
    average_precision: float


def places_by_score(exemplars: Array, others: Array | Iterable[Array]) -> Places:
    """Equation (7.2) from the exemplars' scores and those of all other candidates, whole or in
    blocks of any order."""
    mine = np.concatenate([*_blocks(exemplars), np.zeros(0)])
    if not len(mine):
        raise ValueError("no exemplar is given: its rank is undefined.")
    ascending = np.sort(mine)
    # ahead[i] counts the others with exactly i of the exemplars' scores below theirs.
    ahead = np.zeros(len(mine) + 1, np.int64)
    for block in _blocks(others):
        ahead += np.bincount(np.searchsorted(ascending, block, "left"), minlength=len(ahead))
    # Above the score at place i of the ascending ones are those with more than i below theirs.
    above = ahead[::-1].cumsum()[:-1]
    return Places(np.arange(1, len(mine) + 1) + above, len(mine) + int(ahead.sum()))


def retrieval(places: Places, depths: Sequence[int] = DEPTHS) -> Retrieval:
    """Equations (7.3) and (7.4)."""
    ranks = np.sort(places.ranks)
    for k in depths:
        if not 1 <= k <= places.candidates:
            raise ValueError(f"recall@{k} needs at least {k} candidates, got {places.candidates}.")
    hits = {k: int(np.sum(ranks <= k)) for k in depths}
    recall = {k: count / min(k, len(ranks)) for k, count in hits.items()}
    found = {k: count / len(ranks) for k, count in hits.items()}
    precision = float(np.mean(np.arange(1, len(ranks) + 1) / ranks))
    return Retrieval(recall, found, precision)


class TaskResult(NamedTuple):
    """One method on one task; ``groups`` says where it counts, such as {"test_case": ...}."""

    method: str
    groups: Mapping[str, str]
    found: Retrieval


class Summary(NamedTuple):
    """A row of the table: means over tasks with 95% intervals.

    Attributes:
        group, value: which tasks, such as "test_case" and "test_bamfg", or "all" and "all".
        tasks: how many.
    """

    method: str
    group: str
    value: str
    tasks: int
    recall: dict[int, Interval]
    found: dict[int, Interval]
    mean_average_precision: Interval


def summarise(results: Iterable[TaskResult], replicates: int = 10_000) -> list[Summary]:
    """Means with bootstrap intervals over tasks: by method, over all tasks and in every group.

    Methods come in the order in which they first occur; a method's row over all tasks comes first.
    """
    members: dict[str, dict[tuple[str, str], list[Retrieval]]] = {}
    for result in results:
        groups = members.setdefault(result.method, {})
        for key in (("all", "all"), *result.groups.items()):
            groups.setdefault(key, []).append(result.found)
    rows = []
    for method, groups in members.items():
        for (group, value), found in sorted(groups.items(), key=lambda item: item[0]):
            depths = tuple(found[0].recall)
            if any(tuple(one.recall) != depths for one in found):
                raise ValueError(f"{method}: results of differing depths; compute all at the same.")
            recall = {k: _mean([one.recall[k] for one in found], replicates) for k in depths}
            share = {k: _mean([one.found[k] for one in found], replicates) for k in depths}
            precision = _mean([one.average_precision for one in found], replicates)
            rows.append(Summary(method, group, value, len(found), recall, share, precision))
    return rows


def _mean(values: Sequence[float], replicates: int) -> Interval:
    return bootstrap_mean([np.array(values)], replicates)


def _blocks(scores: Array | Iterable[Array]) -> Iterator[np.ndarray]:
    for part in (scores,) if isinstance(scores, Array) else scores:
        if np.ndim(part) != 1:
            raise ValueError(f"scores of shape {np.shape(part)}, expected one a candidate.")
        for first in range(0, len(part), BLOCK):
            # float64 holds every score of a smaller type exactly.
            values = np.asarray(part[first : first + BLOCK]).astype(np.float64)
            if np.isnan(values).any():
                raise ValueError("a score is NaN, which has no rank; look at the features.")
            yield values
