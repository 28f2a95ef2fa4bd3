"""Images and one-hot attributes: what a class-conditional network takes."""

from collections.abc import Mapping

import numpy as np

from ctrak_jax.data import Dataset, negatives
from ctrak_jax.data.dataset import to_uint8, to_unit
from ctrak_jax.inputs.base import Inputs, NegativeRule
from ctrak_jax.typing import Array


class Pixels(Inputs):
    """Images in [-1, 1] and concatenated one-hots."""

    def __init__(self, dataset: Dataset, negative: NegativeRule) -> None:
        self._dataset, self._negative = dataset, negative

    @property
    def null(self) -> np.ndarray:
        return np.zeros(self._dataset.conditions.size, np.float32)

    def samples(self, rows: np.ndarray, *, mirrored: bool = False) -> np.ndarray:
        images = self._dataset.train_images(rows)
        return images[:, :, ::-1] if mirrored else images

    def conditions(self, rows: np.ndarray) -> np.ndarray:
        return self._dataset.train_conditions[rows]

    def named(self, rows: np.ndarray) -> np.ndarray:
        return self.conditions(rows)

    def negatives(self, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
        own, index = self._dataset.train_conditions, self._dataset.train_index
        count = self._negative.number
        match self._negative.kind:
            case "null":
                return np.zeros((len(rows), 1, len(self.null)), np.float32)
            case "attribute" | "opposite" as what:
                coding = self._dataset.conditions
                count = min(count, max(self._dataset.most_named, 1))
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
