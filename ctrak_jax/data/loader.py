"""Batches by grain, shuffled anew each epoch and the same after a resume; reading ahead."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ctrak_jax.data.dataset import Dataset


class Batches(NamedTuple):
    """Several consecutive batches: images [step, batch, H, W, C], conditions [step, batch, c]."""

    x0: np.ndarray
    cond: np.ndarray


class ShuffledRows:
    """``rows(first, count)``: the row numbers [count, batch] of ``count`` steps from ``first`` on.
    The run over ``size`` rows is endless and shuffled anew each epoch."""

    def __init__(self, size: int, *, batch: int, seed: int) -> None:
        import grain

        self._rows = grain.MapDataset.range(size).seed(seed).shuffle().repeat().batch(batch)

    def __call__(self, first: int, count: int) -> np.ndarray:
        return np.stack([np.asarray(self._rows[step]) for step in range(first, first + count)])


class TrainingBatches:
    """``batches(first, count)``: the training data of the same steps."""

    def __init__(self, dataset: Dataset, *, batch: int, seed: int) -> None:
        self._dataset = dataset
        self._conditions = dataset.train_conditions
        self._rows = ShuffledRows(len(dataset.train_index), batch=batch, seed=seed)

    def __call__(self, first: int, count: int) -> Batches:
        rows = self._rows(first, count)
        images = self._dataset.train_images(rows.reshape(-1))
        return Batches(images.reshape(*rows.shape, *images.shape[1:]), self._conditions[rows])


def read_ahead(jobs: Sequence[Any], read: Callable[[Any], Any]) -> Iterator[Any]:
    """``read(job)`` of every job in order, read in threads while the caller works."""
    import grain

    # Jobs are whole batches: a few of them are enough, and many would fill the memory.
    ahead = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    numbers = grain.MapDataset.range(len(jobs))
    return iter(numbers.map(lambda n: read(jobs[n])).to_iter_dataset(ahead))
