"""The training samples of a variant, batch by batch."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from ctrak_jax.data import other_indices
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.variant import MAIN, Variant


class TrainBatch(NamedTuple):
    """Training samples: x0 [sample, ...], cond [sample, ...], against [sample, opponent, ...],
    index [sample]."""

    x0: Any
    cond: Any
    against: Any
    index: Any


def described(ctx: Context, count: int) -> TrainBatch:
    """The shapes and dtypes of a batch of ``count`` training samples."""

    def array(*shape: int, dtype: type = np.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((count, *shape), dtype)

    sample, condition = ctx.shapes
    against = array(ctx.opponents, *condition)
    return TrainBatch(array(*sample), array(*condition), against, array(dtype=np.int64))


@dataclass(frozen=True)
class Samples:
    """What the training samples of a variant are featurized with.

    Attributes:
        rows: of the training set, those that the variant computes. labels: for every row of the
            training set the one whose condition it bears.
    """

    ctx: Context
    rows: np.ndarray
    labels: np.ndarray

    def batch(self, rows: np.ndarray) -> TrainBatch:
        """The arrays of some rows of the training set."""
        inputs = self.ctx.inputs
        return TrainBatch(
            inputs.samples(rows),
            inputs.conditions(self.labels[rows]),
            inputs.against(rows, self.labels),
            self.ctx.dataset.train_index[rows],
        )


def samples_of(ctx: Context, variant: Variant = MAIN) -> Samples:
    """The rows a variant computes, and whose conditions they bear."""
    every = np.arange(len(ctx.dataset.train_index))
    rows = relabelled_rows(ctx, variant.relabel) if variant.relabel else every
    return Samples(ctx, rows, labels_of(ctx, variant))


def relabelled_rows(ctx: Context, share: float) -> np.ndarray:
    """Rows of the training set that the wrong-label control featurizes under another condition."""
    count = len(ctx.dataset.train_index)
    picked = np.random.default_rng((ctx.config.trajectory.seed, 2)).permutation(count)
    return np.sort(picked[: max(1, round(share * count))])


def labels_of(ctx: Context, variant: Variant) -> np.ndarray:
    """For every training sample the row whose condition it is featurized under: int [n]."""
    labels = np.arange(len(ctx.dataset.train_index))
    if variant.relabel:
        rows = relabelled_rows(ctx, variant.relabel)
        conditions, index = ctx.dataset.train_conditions, ctx.dataset.train_index
        labels[rows] = other_indices(conditions, index, seed=1)[rows]
    return labels
