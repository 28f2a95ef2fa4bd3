"""Training batches by grain: shuffled anew each epoch, random access, the same after a resume."""

from typing import NamedTuple

import grain
import numpy as np

from ctrak_jax.data.dataset import Dataset


class Batches(NamedTuple):
    """Several consecutive batches: images [step, batch, H, W, C], conditions [step, batch, c]."""

    x0: np.ndarray
    cond: np.ndarray


class TrainingBatches:
    """``batches(first, count)`` gives steps ``first ... first + count - 1`` of an endless run."""

    def __init__(self, dataset: Dataset, *, batch: int, seed: int) -> None:
        self._images = dataset.train_images()
        self._conditions = dataset.train_conditions
        self._rows = (
            grain.MapDataset.range(len(self._images)).seed(seed).shuffle().repeat().batch(batch)
        )

    def __call__(self, first: int, count: int) -> Batches:
        rows = np.stack([np.asarray(self._rows[step]) for step in range(first, first + count)])
        return Batches(self._images[rows], self._conditions[rows])
