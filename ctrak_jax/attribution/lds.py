r"""The linear datamodeling score (method.md, section 10; NumPy).

A ranking of training samples is judged by retraining. The model is trained again on random subsets
:math:`S_m` of the candidates, and an output f of a question q is measured on each
:math:`\theta_m`. Scores add up to a prediction of it,

.. math::
    g(q, S) = \sum_{i \in S} s_i(q)                                                      \tag{10.3}

and what is asked of them is the order of the retrained models (Park et al. 2023):

.. math::
    \mathrm{LDS}(q) = \mathrm{corr}_m \bigl( \mathrm{rank}\, g(q, S_m),
    \mathrm{rank}\, f(q; \theta_m) \bigr)                                                \tag{10.4}

Spearman's correlation over the subsets, ties by their average rank. In a bootstrap replicate that
draws subset j :math:`n_j` times, the average rank of a value v among all that were drawn is

.. math::
    r(v) = \frac{1}{2} + \sum_j n_j \bigl( [v_j \lt v] + \tfrac{1}{2} [v_j = v] \bigr)   \tag{10.5}

so one matrix product ranks all replicates.

What a training gives is more than its subset's doing. Where n models were trained on each subset,
from a seed each, the reliability of the outputs :math:`f_j` of one training is how well they
predict those of another,

.. math::
    r(q) = \frac{2}{n (n - 1)} \sum_{j \lt k}
    \mathrm{corr}_m \bigl( \mathrm{rank}\, f_j(q; S_m),
    \mathrm{rank}\, f_k(q; S_m) \bigr)                                                   \tag{10.6}

The mean of n trainings has the reliability R of Spearman and Brown, and scores that predict the
expected output exactly reach its square root:

.. math::
    R = \frac{n r}{1 + (n - 1) r}, \qquad \mathrm{LDS} \le \sqrt{R}                      \tag{10.7}

Both hold exactly for Pearson's correlation and outputs that are a value of the subset plus
independent noise of equal variance.
"""

import math
from collections.abc import Hashable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ctrak_jax.metrics import Interval, bootstrap_mean
from ctrak_jax.typing import Array

CHUNK = 1_000
"""Bootstrap replicates ranked at a time."""


class Place(NamedTuple):
    """Where a question belongs: values of one image vary together, and images of one training
    seed."""

    seed: Hashable
    image: Hashable


class DatamodelingScore(NamedTuple):
    """Mean LDS over questions with two 95% intervals.

    Attributes:
        over_questions: bootstrap over training seeds and, inside each, images.
        over_subsets: bootstrap over the retrained models.
    """

    mean: float
    over_questions: Interval
    over_subsets: Interval


def predicted(
    scores: Float[Array, "query sample"], members: Bool[Array, "subset sample"]
) -> Float[np.ndarray, "query subset"]:
    """Equation (10.3)."""
    return np.asarray(scores, np.float64) @ np.asarray(members, np.float64).T


def resampled_spearman(
    a: Float[Array, "query subset"],
    b: Float[Array, "query subset"],
    drawn: Int[Array, "replicate subset"],
) -> Float[np.ndarray, "query replicate"]:
    """Spearman's correlation of every row of ``a`` with that of ``b`` in every replicate.

    NaN where either is the same in all subsets drawn, or is NaN anywhere.

    Args:
        a: values by subset.
        b: the same.
        drawn: how often each replicate drew each subset.
    """
    counts = np.asarray(drawn, np.float64)
    middle = (counts.sum(1) + 1.0) / 2.0
    found = np.empty((len(a), len(counts)))
    for row, (one, two) in enumerate(zip(np.asarray(a), np.asarray(b), strict=True)):
        if np.isnan(one).any() or np.isnan(two).any():
            found[row] = np.nan
            continue
        left, right = (_ranks(values, counts) - middle[:, None] for values in (one, two))
        spread = (counts * left**2).sum(1) * (counts * right**2).sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            found[row] = (counts * left * right).sum(1) / np.sqrt(spread)
    return found


def _ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Equation (10.5) of every value in every replicate: [replicate, subset]."""
    below = (values[:, None] < values) + 0.5 * (values[:, None] == values)
    return 0.5 + counts @ below


def spearman(
    a: Float[Array, "query subset"], b: Float[Array, "query subset"]
) -> Float[np.ndarray, " query"]:
    """Equation (10.4) of every row; NaN where either is the same in all subsets."""
    return resampled_spearman(a, b, np.ones((1, np.shape(a)[1]), int))[:, 0]


def draws(subsets: int, replicates: int, seed: int = 0) -> Int[np.ndarray, "replicate subset"]:
    """How often each bootstrap replicate draws each subset."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(subsets, np.full(subsets, 1.0 / subsets), size=replicates)


class Correlations(NamedTuple):
    """What one method reaches on one output, question by question.

    Attributes:
        value: equation (10.4).
        replicates: the same over the subsets of every bootstrap replicate.
    """

    value: Float[np.ndarray, " query"]
    replicates: Float[np.ndarray, "query replicate"]

    def minus(self, other: "Correlations") -> "Correlations":
        """The difference of two methods on the same questions and the same replicates."""
        return Correlations(self.value - other.value, self.replicates - other.replicates)

    def of(self, rows: Int[Array, " row"]) -> "Correlations":
        """Some of the questions."""
        return Correlations(self.value[rows], self.replicates[rows])


def correlations(
    predicted: Float[Array, "query subset"],
    measured: Float[Array, "query subset"],
    replicates: int = 10_000,
    seed: int = 0,
) -> Correlations:
    """The LDS of every question; the same seed draws the same replicates for every method."""
    drawn = draws(np.shape(predicted)[1], replicates, seed)
    parts = [
        resampled_spearman(predicted, measured, drawn[first : first + CHUNK])
        for first in range(0, replicates, CHUNK)
    ]
    return Correlations(spearman(predicted, measured), np.concatenate(parts, axis=1))


def reliability(
    trained: Float[Array, "training query subset"], replicates: int = 10_000, seed: int = 0
) -> Correlations:
    """Equation (10.6) of every question, on the replicates of :func:`correlations`.

    Args:
        trained: outputs of at least two trainings on every subset.
        replicates: of the bootstrap over subsets.
        seed: of the bootstrap.
    """
    pairs = list(combinations(trained, 2))
    found = [correlations(one, two, replicates, seed) for one, two in pairs]
    values, resampled = zip(*found, strict=True)
    return Correlations(np.mean(values, axis=0), np.mean(resampled, axis=0))


def best_possible(reliability: float, trainings: int) -> float:
    """Equation (10.7): the square root of R, 0 where one training predicts nothing of another.

    Args:
        reliability: r, of one training.
        trainings: n, how many are averaged.
    """
    r = max(reliability, 0.0)
    return math.sqrt(trainings * r / (1.0 + (trainings - 1) * r))


def summarise(
    found: Correlations, places: Sequence[Place], replicates: int = 10_000
) -> DatamodelingScore | None:
    """The mean over training seeds of the mean over images of the mean over an image's questions.

    Questions whose LDS is undefined are left out; None if that is all of them. A replicate in
    which a question is undefined goes without it.

    Args:
        found: of the questions.
        places: the seed and the image of each.
        replicates: of the bootstrap over questions.
    """
    kept = np.flatnonzero(~np.isnan(found.value))
    if not len(kept):
        return None
    clusters: dict[Hashable, dict[Hashable, list[int]]] = {}
    for row in kept.tolist():
        seed, image = places[row]
        clusters.setdefault(seed, {}).setdefault(image, []).append(row)
    weights = np.zeros(len(found.value))
    for images in clusters.values():
        for rows in images.values():
            weights[rows] = 1.0 / (len(clusters) * len(images) * len(rows))
    groups = [
        np.array([found.value[rows].mean() for rows in images.values()])
        for images in clusters.values()
    ]
    over_questions = bootstrap_mean(groups, replicates)
    there = ~np.isnan(found.replicates)
    share = weights @ there
    means = weights @ np.where(there, found.replicates, 0.0)
    low, high = np.quantile(means[share > 0] / share[share > 0], [0.025, 0.975])
    mean = over_questions.mean
    return DatamodelingScore(mean, over_questions, Interval(mean, float(low), float(high)))
