"""What a network is given of a data set: samples, their conditions, and those of questions."""

from typing import Protocol, runtime_checkable

import numpy as np

from ctrak_jax.config import Trajectory
from ctrak_jax.data import Dataset, opponents
from ctrak_jax.data.dataset import to_uint8, to_unit


@runtime_checkable
class Inputs(Protocol):
    """Samples and conditions as one kind of network takes them; rows are of the training set.

    Attributes:
        shape: of a sample. condition_shape: of a condition. null: the condition that says nothing.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def condition_shape(self) -> tuple[int, ...]: ...

    @property
    def null(self) -> np.ndarray: ...

    def samples(self, rows: np.ndarray) -> np.ndarray:
        """Training samples, float32 [row, ...]."""
        ...

    def conditions(self, rows: np.ndarray) -> np.ndarray:
        """Conditions of training samples, float32 [row, ...]."""
        ...

    def against(self, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """What the inversions of ``rows`` are guided against, [row, opponent, ...], for samples
        that bear the conditions of ``labels`` (int [n], a row for every training sample)."""
        ...

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Images uint8 [n, H, W, 3] -> samples [n, ...]."""
        ...

    def decode(self, samples: np.ndarray) -> np.ndarray:
        """Samples [n, ...] -> images uint8 [n, H, W, 3]."""
        ...


class Pixels:
    """Images and one-hot attributes: what a class-conditional network takes."""

    def __init__(self, dataset: Dataset, trajectory: Trajectory) -> None:
        self._dataset, self._trajectory = dataset, trajectory

    @property
    def shape(self) -> tuple[int, ...]:
        return self._dataset.image_shape

    @property
    def condition_shape(self) -> tuple[int, ...]:
        return (self._dataset.conditions.size,)

    @property
    def null(self) -> np.ndarray:
        return np.zeros(self.condition_shape, np.float32)

    def samples(self, rows: np.ndarray) -> np.ndarray:
        return self._dataset.train_images(rows)

    def conditions(self, rows: np.ndarray) -> np.ndarray:
        return self._dataset.train_conditions[rows]

    def against(self, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
        own, index = self._dataset.train_conditions, self._dataset.train_index
        count = self._trajectory.opponents
        match self._trajectory.against:
            case "null":
                return np.zeros((len(rows), 1, *self.condition_shape), np.float32)
            case "attribute":
                coding = self._dataset.conditions
                return coding.with_one_changed(own[labels[rows]], index[rows], seed=0, count=count)
            case "other":
                others = opponents(own[labels], rows, index[rows], seed=0, count=count)
                return own[labels[others]]

    def encode(self, images: np.ndarray) -> np.ndarray:
        return to_unit(images)

    def decode(self, samples: np.ndarray) -> np.ndarray:
        return to_uint8(samples)
