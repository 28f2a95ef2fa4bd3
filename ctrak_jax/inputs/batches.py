"""The training samples of an experiment, batch by batch."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ctrak_jax.attribution import TrainBatch
from ctrak_jax.data import Dataset, other_indices
from ctrak_jax.inputs.base import SampleInputs
from ctrak_jax.typing import Cond

RELABELLED_BY = 2
"""The random stream of the samples that the wrong-label control featurizes under another
condition."""


def described(count: int, sample: tuple[int, ...], condition: Cond, negatives: int) -> TrainBatch:
    """The shapes and dtypes of a batch of ``count`` training samples: ``sample`` and ``condition``
    are those of one, which has so many ``negatives``."""

    def array(*shape: int, dtype: Any = np.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((count, *shape), dtype)

    def conditions(*shape: int) -> Cond:
        return jax.tree.map(lambda leaf: array(*shape, *leaf.shape, dtype=leaf.dtype), condition)

    return TrainBatch(array(*sample), conditions(), array(dtype=np.int64), conditions(negatives))


@dataclass(frozen=True, kw_only=True)
class TrainSamples:
    """What the training samples of an experiment are featurized with.

    Attributes:
        inputs: gives the arrays.
        index: what fixes the noise of every sample [n], its dataset index.
        rows: the samples that the experiment computes.
        labels: for every sample the one whose condition it bears [n].
    """

    inputs: SampleInputs
    index: np.ndarray
    rows: np.ndarray
    labels: np.ndarray

    @property
    def indices(self) -> np.ndarray:
        """Dataset indices of the rows that are computed."""
        return self.index[self.rows]

    def batch(self, rows: np.ndarray, *, guided: bool = True) -> TrainBatch:
        """The arrays of some samples; ``guided``: with negatives."""
        return TrainBatch(
            self.inputs.samples(rows),
            self.inputs.conditions(self.labels[rows]),
            self.index[rows],
            self.inputs.negatives(rows, self.labels) if guided else None,
        )


def train_samples(inputs: SampleInputs, index: np.ndarray) -> TrainSamples:
    """Every sample under its own condition."""
    every = np.arange(len(index))
    return TrainSamples(inputs=inputs, index=index, rows=every, labels=every)


def relabelled_samples(
    inputs: SampleInputs, data: Dataset, share: float, seed: int
) -> TrainSamples:
    """A share of the samples, each under another one's condition (the wrong-label control)."""
    index = data.train_index
    rows = relabelled_rows(len(index), share, seed)
    labels = np.arange(len(index))
    labels[rows] = other_indices(data.train_conditions, index, seed=1)[rows]
    return TrainSamples(inputs=inputs, index=index, rows=rows, labels=labels)


def relabelled_rows(count: int, share: float, seed: int) -> np.ndarray:
    """Which of ``count`` samples the wrong-label control featurizes; they ascend."""
    picked = np.random.default_rng((seed, RELABELLED_BY)).permutation(count)
    return np.sort(picked[: max(1, round(share * count))])
