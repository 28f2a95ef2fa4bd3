"""What a network is given of questions: pictures, conditions, and conditions without a concept."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from ctrak_jax.attribution import QueryBatch, mixtures, stacked
from ctrak_jax.data import Conditions
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.inputs.base import Inputs
from ctrak_jax.inputs.masks import fitted, read_mask
from ctrak_jax.rewards import Concept, ConceptReward
from ctrak_jax.run.questions import Question
from ctrak_jax.typing import Cond


class Alternative(NamedTuple):
    """A condition without the concept, as values, and as a prompt for a text-to-image network."""

    values: dict[str, str]
    prompt: str


@dataclass(frozen=True, kw_only=True)
class QuestionInputs:
    """The arrays of questions whose pictures are in ``folder``; ``minus`` says what the condition
    without the concept is: all other values of its attribute, one of them (fixed by the
    combination, uniform), or the null value."""

    inputs: Inputs
    conditions: Conditions
    minus: Literal["others", "other", "null"]
    folder: Path
    image_shape: tuple[int, int, int]

    def alternatives(self, values: Mapping[str, str], attribute: str) -> list[Alternative]:
        """The conditions without the concept."""
        others = [v for v in self.conditions.vocabulary[attribute] if v != values[attribute]]
        if self.minus == "null" or not others:
            rest = {name: value for name, value in values.items() if name != attribute}
            return [Alternative(rest, self.inputs.prompt_without(values, attribute))]
        if self.minus == "other":
            seed = zlib.crc32(f"{'-'.join(values.values())}/{attribute}".encode())
            others = [others[int(np.random.default_rng(seed).integers(len(others)))]]
        changed = [{**values, attribute: other} for other in others]
        return [Alternative(found, self.inputs.prompt(found)) for found in changed]

    def minus_conditions(self, values: Mapping[str, str], attribute: str) -> Cond:
        """The same as the network takes them: arrays [alternative, ...]."""
        return stacked(
            [self.inputs.condition(*found) for found in self.alternatives(values, attribute)]
        )

    def batch(
        self,
        questions: Sequence[Question],
        groups: np.ndarray,
        reward: ConceptReward | None = None,
    ) -> QueryBatch:
        """The arrays of a batch of images; global questions have no image of their own.

        Args:
            questions: all of a run.
            groups: rows of them [image, concept]; an image's first row fixes its random numbers,
                and those of its parts.
            reward: what the concepts are targets of, if any.

        Raises:
            StoreError: a picture or a mask is missing, unreadable or of another size.
        """
        heads = [questions[row] for row in groups[:, 0]]
        first = noise_numbers(questions)
        images = [
            read_image(self.folder / q.image, self.image_shape)
            if q.scope == "local"
            else np.zeros(self.image_shape, np.uint8)
            for q in heads
        ]
        x0, mask, target = self.inputs.encode(np.stack(images)), None, None
        if any(q.mask for q in questions):
            masks = [fitted(self.mask(q), x0.shape[1:]) for q in heads]
            mask = np.repeat(np.stack(masks)[:, None], groups.shape[1], axis=1)
        if reward is not None:
            of = [[reward.target(concept_of(questions[row])) for row in g] for g in groups]
            target = np.array(of)
        return QueryBatch(
            x0,
            stacked([self.inputs.condition(q.condition, q.prompt) for q in heads]),
            mixtures([[self._minus(questions[row]) for row in group] for group in groups]),
            np.array([first[row] for row in groups[:, 0]], np.int32),
            mask,
            target,
        )

    def mask(self, question: Question) -> np.ndarray:
        """The part of the image that is asked about, float32 [H, W]; ones for all of it."""
        if not question.mask:
            return np.ones(self.image_shape[:2], np.float32)
        try:
            return read_mask(self.folder / question.mask, self.image_shape)
        except UsageError as error:
            raise StoreError(f"{error} Or delete {self.folder}, and ask anew.") from None

    def _minus(self, question: Question) -> Cond:
        return self.minus_conditions(question.condition, question.attribute)


def concept_of(question: Question) -> Concept:
    """What a question is about, as rewards have it."""
    return Concept(question.attribute, question.value)


def in_common(found: Sequence[Alternative], attribute: str) -> dict[str, str]:
    """The one condition without the concept, or what several have in common: all but its value."""
    if len(found) == 1:
        return found[0].values
    return {name: value for name, value in found[0].values.items() if name != attribute}


def noise_numbers(questions: Sequence[Question]) -> list[int]:
    """What fixes the random numbers of every question: the first row about its picture."""
    first: dict[str, int] = {}
    return [first.setdefault(q.image, row) for row, q in enumerate(questions)]


def by_image(questions: Sequence[Question], rows: Sequence[int]) -> np.ndarray:
    """The rows of the questions about each image, or part of one, one per concept: int
    [image, concept]."""
    groups: dict[str, list[int]] = {}
    for row in rows:
        groups.setdefault(questions[row].query, []).append(row)
    return np.array(list(groups.values()))


def read_image(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """A query's picture: uint8 [H, W, 3].

    Raises:
        StoreError: missing, unreadable or of another size.
    """
    try:
        image = np.asarray(Image.open(path).convert("RGB"))
    except OSError as error:
        raise StoreError(f"{path}: not a readable image ({error}).") from None
    if image.shape != shape:
        raise StoreError(f"{path}: shape {image.shape}, the model wants {shape}.")
    return image
