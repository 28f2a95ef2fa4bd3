"""What a network is given of a data set: samples, their conditions, and those of questions."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ctrak_jax.config import TrajectoryConfig
from ctrak_jax.data import Dataset, negatives
from ctrak_jax.data.dataset import to_uint8, to_unit
from ctrak_jax.typing import Array


class Shapes(NamedTuple):
    """Of one sample and of its condition, as a network takes them."""

    sample: tuple[int, ...]
    condition: tuple[int, ...]


class Inputs(ABC):
    """Samples and conditions as one kind of network takes them; rows are of the training set.

    Attributes:
        null: the condition that says nothing.
        flipped: does every training sample have a mirrored copy? key: what the samples and
            conditions depend on beside the data set, for manifests.
    """

    @property
    @abstractmethod
    def null(self) -> np.ndarray: ...

    @property
    @abstractmethod
    def flipped(self) -> bool: ...

    @property
    @abstractmethod
    def key(self) -> dict[str, str]: ...

    @abstractmethod
    def samples(self, rows: np.ndarray, *, mirrored: bool = False) -> np.ndarray:
        """Training samples or their mirrored copies, float32 [row, ...]."""

    @abstractmethod
    def conditions(self, rows: np.ndarray) -> np.ndarray:
        """Conditions of training samples, float32 [row, ...]."""

    @abstractmethod
    def against(self, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """What the inversions of ``rows`` are guided against, [row, negative, ...], for samples
        that bear the conditions of ``labels`` (int [n], a row for every training sample)."""

    @abstractmethod
    def encode(self, images: np.ndarray) -> np.ndarray:
        """Images uint8 [n, H, W, 3] -> samples [n, ...]."""

    @abstractmethod
    def decode(self, samples: Array) -> np.ndarray:
        """Samples [n, ...] -> images uint8 [n, H, W, 3]."""

    @abstractmethod
    def prompt(self, values: Mapping[str, str]) -> str:
        """What a text-to-image network is told of these values; empty for other networks."""

    @abstractmethod
    def prompt_without(self, values: Mapping[str, str], attribute: str) -> str:
        """The same without the words for one of them."""

    @abstractmethod
    def condition(self, values: Mapping[str, str], prompt: str) -> np.ndarray:
        """The condition of these values, or of this prompt."""


class Pixels(Inputs):
    """Images and one-hot attributes: what a class-conditional network takes."""

    def __init__(self, dataset: Dataset, trajectory: TrajectoryConfig) -> None:
        self._dataset, self._trajectory = dataset, trajectory

    @property
    def null(self) -> np.ndarray:
        return np.zeros(self._dataset.conditions.size, np.float32)

    @property
    def flipped(self) -> bool:
        return False

    @property
    def key(self) -> dict[str, str]:
        return {}

    def samples(self, rows: np.ndarray, *, mirrored: bool = False) -> np.ndarray:
        images = self._dataset.train_images(rows)
        return images[:, :, ::-1] if mirrored else images

    def conditions(self, rows: np.ndarray) -> np.ndarray:
        return self._dataset.train_conditions[rows]

    def against(self, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
        own, index = self._dataset.train_conditions, self._dataset.train_index
        count = self._trajectory.negatives
        match self._trajectory.negative:
            case "null":
                return np.zeros((len(rows), 1, len(self.null)), np.float32)
            case "attribute" | "opposite" as what:
                coding = self._dataset.conditions
                return coding.changed(what, own[labels[rows]], index[rows], seed=0, count=count)
            case "other":
                others = negatives(own[labels], rows, index[rows], seed=0, count=count)
                return own[labels[others]]
            case "prompt":
                raise ValueError("a class-conditional network has no prompts.")

    def encode(self, images: np.ndarray) -> np.ndarray:
        return to_unit(images)

    def decode(self, samples: Array) -> np.ndarray:
        return to_uint8(np.asarray(samples))

    def prompt(self, values: Mapping[str, str]) -> str:
        return ""

    def prompt_without(self, values: Mapping[str, str], attribute: str) -> str:
        return ""

    def condition(self, values: Mapping[str, str], prompt: str) -> np.ndarray:
        return self._dataset.conditions.encode(values)
