"""What a network is given of a data set: samples, their conditions, and those of questions."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from ctrak_jax.rewards import ConceptReward
from ctrak_jax.typing import Array, Cond


class NegativeRule(NamedTuple):
    """What the inversions of training samples are guided against, fixed by a sample's index.

    Attributes:
        kind: the sample's condition with one attribute changed, or with every attribute changed
            (opposite); another sample's condition; the null condition; one prompt.
        number: how many per sample, where there are so many.
        prompt: the text, of that kind.
    """

    kind: Literal["attribute", "opposite", "other", "null", "prompt"]
    number: int = 1
    prompt: str = ""


class SampleInputs(ABC):
    """Training samples and conditions as one kind of network takes them; rows are of the
    candidates.

    Attributes:
        null: the condition that says nothing.
        flipped: does every training sample have a mirrored copy?
        key: what the samples and conditions depend on beside the data set, for manifests.
    """

    @property
    @abstractmethod
    def null(self) -> Cond: ...

    @property
    def flipped(self) -> bool:
        return False

    @property
    def key(self) -> dict[str, str]:
        return {}

    @abstractmethod
    def samples(self, rows: np.ndarray, *, mirrored: bool = False) -> np.ndarray:
        """Training samples or their mirrored copies, float32 [row, ...]."""

    @abstractmethod
    def conditions(self, rows: np.ndarray) -> Cond:
        """Conditions of training samples: arrays [row, ...]."""

    @abstractmethod
    def named(self, rows: np.ndarray) -> np.ndarray:
        """The attribute values that conditions of training samples name, as concatenated one-hots:
        float32 [row, condition]; zeros where none is named."""

    @abstractmethod
    def negatives(self, rows: np.ndarray, labels: np.ndarray) -> Cond:
        """What the inversions of ``rows`` are guided against, arrays [row, negative, ...], for
        samples that bear the conditions of ``labels`` (int [n], a row for every training
        sample)."""


class Inputs(SampleInputs):
    """The same, and images and conditions from outside the data set."""

    @abstractmethod
    def encode(self, images: np.ndarray) -> np.ndarray:
        """Images uint8 [n, H, W, 3] -> samples [n, ...]."""

    @abstractmethod
    def decode(self, samples: Array) -> np.ndarray:
        """Samples [n, ...] -> images uint8 [n, H, W, 3]."""

    def reward_of_samples(self, reward: ConceptReward) -> ConceptReward:
        """A reward of pictures as one of samples, through the decoder where they are latents."""
        return reward

    @abstractmethod
    def prompt(self, values: Mapping[str, str]) -> str:
        """The prompt of these values for a text-to-image network; empty for other networks."""

    @abstractmethod
    def prompt_without(self, values: Mapping[str, str], attribute: str) -> str:
        """The same without the words for one of them."""

    @abstractmethod
    def condition(self, values: Mapping[str, str], prompt: str) -> Cond:
        """The condition of these values, or of this prompt."""
