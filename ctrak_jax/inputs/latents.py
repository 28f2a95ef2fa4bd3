"""What a text-to-image network is given: latents, and the embeddings of captions."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ctrak_jax.attribution import stacked
from ctrak_jax.data import Dataset, negatives
from ctrak_jax.errors import UsageError
from ctrak_jax.inputs import arrays
from ctrak_jax.inputs.base import Inputs, NegativeRule
from ctrak_jax.inputs.encoder import BatchEncoder
from ctrak_jax.prompts import unnamed, without, words_of
from ctrak_jax.rewards import ConceptReward
from ctrak_jax.typing import Array, Cond, Params, Scalar


def require_captions(dataset: Dataset) -> None:
    """Refuse a data set that a text-to-image model cannot express.

    Raises:
        UsageError: it has no captions.
    """
    if not dataset.raw.prompts:
        raise UsageError(
            "a text-to-image model needs a caption for every image; add a table with "
            "file_name and text, a .txt beside each image, or prompts.txt (docs/reference/data.md)."
        )


class Latents(Inputs):
    """Latents and conditions, by dataset index on disk; other texts are encoded when used."""

    def __init__(
        self,
        dataset: Dataset,
        negative: NegativeRule,
        encoder: BatchEncoder,
        encoded: Path,
        captions: Sequence[str],
        latent: tuple[int, ...],
        condition: Cond,
    ) -> None:
        """
        Args:
            dataset: images and captions.
            negative: what inversions are guided against.
            encoder: of other images and texts.
            encoded: the folder of the two arrays.
            captions: whose embeddings are there, by dataset index; others are computed.
            latent: shape of a latent [h, w, c].
            condition: the shapes and dtypes of one condition's arrays.

        Raises:
            UsageError: the data set has no captions.
        """
        require_captions(dataset)
        self._dataset, self._negative, self._encoder = dataset, negative, encoder
        self._encoded, self._latent, self._condition = encoded, latent, condition
        self._stored = captions
        self._texts: dict[str, Cond] = {}

    @property
    def null(self) -> Cond:
        return self._text("")

    @property
    def flipped(self) -> bool:
        return len(self._arrays.latents) > len(self._dataset.raw.images)

    @property
    def key(self) -> dict[str, str]:
        return {"encoded": self._fingerprint}

    def samples(self, rows: np.ndarray, *, mirrored: bool = False) -> np.ndarray:
        first = len(self._dataset.raw.images) if mirrored else 0
        found = self._arrays.latents[first + self._dataset.train_index[rows]]
        return np.moveaxis(found, 1, -1).astype(np.float32)

    def conditions(self, rows: np.ndarray) -> Cond:
        index = self._dataset.train_index[rows]
        return self._embedded([(i, self._dataset.captions[i]) for i in index.tolist()])

    def named(self, rows: np.ndarray) -> np.ndarray:
        return self._dataset.train_conditions[rows]

    def negatives(self, rows: np.ndarray, labels: np.ndarray) -> Cond:
        index, wanted = self._dataset.train_index, self._negative
        match wanted.kind:
            case "null" | "prompt":
                text = self._text(wanted.prompt if wanted.kind == "prompt" else "")
                return jax.tree.map(lambda a: np.broadcast_to(a, (len(rows), 1, *a.shape)), text)
            case "other":
                others = negatives(
                    self._captions[labels], rows, index[rows], seed=0, count=wanted.number
                )
                return stacked([self.conditions(labels[column]) for column in others.T], axis=1)
            case "attribute" | "opposite" as what:
                data, bears = self._dataset, labels[rows]
                count = min(wanted.number, max(data.most_named, 1))
                codes = data.conditions.changed(
                    what, data.train_conditions[bears], index[rows], seed=0, count=count
                )
                texts = [
                    self._changed_caption(code, row)
                    for row, of_row in zip(bears.tolist(), codes, strict=True)
                    for code in of_row
                ]
                found = self._embedded(texts)
                return jax.tree.map(lambda a: a.reshape(*codes.shape[:2], *a.shape[1:]), found)

    def encode(self, images: np.ndarray) -> np.ndarray:
        return self._encoder.encode(images)

    def decode(self, samples: Array) -> np.ndarray:
        return self._encoder.decode(samples)

    def reward_of_samples(self, reward: ConceptReward) -> ConceptReward:
        decoder = self._encoder.codecs.image

        def fn(params: Params, latent: Array, target: Array, /) -> Scalar:
            judge, decoding = params
            return reward.fn(judge, decoder.network.decode(decoding, latent), target)

        return reward._replace(fn=fn, params=(reward.params, decoder.params))

    def prompt(self, values: Mapping[str, str]) -> str:
        """The caption of the first image with these values."""
        advice = (
            "For the questions of a run, use query.minus: null, and add an image of every "
            "combination that is asked about, also where it is held out."
        )
        return self._dataset.raw.prompts[self._captioned(values, advice)]

    def prompt_without(self, values: Mapping[str, str], attribute: str) -> str:
        """The caption of these values without the words for one of them.

        Raises:
            UsageError: no words of the caption speak of it.
        """
        prompt = self.prompt(values)
        words = words_of(attribute, values[attribute], prompt)
        if words is None:
            raise UsageError(
                f"no words of {prompt!r} say {attribute}={values[attribute]}, so none can be left "
                "out; use query.minus: other where the attribute has another value, or leave it "
                "out of data.condition_on."
            )
        return without(prompt, words)

    def condition(self, values: Mapping[str, str], prompt: str) -> Cond:
        return self._text(prompt)

    @cached_property
    def _arrays(self) -> arrays.Encoded:
        count = len(self._dataset.raw.images)
        return arrays.read(self._encoded, count, self._latent, self._condition)

    @cached_property
    def _fingerprint(self) -> str:
        names = (arrays.LATENTS, *arrays.names_of(self._condition))
        return arrays.fingerprint(self._encoded, names)

    def _changed_caption(self, code: np.ndarray, row: int) -> tuple[int, str]:
        """An image with the values of a code, those that are null in it being training row
        ``row``'s, and its caption without the words for these."""
        data, changed = self._dataset, self._dataset.conditions.decode(code)
        advice = "As negative conditions use trajectory.negative: other or null."
        image = self._captioned(data.train_values[row] | changed, advice)
        null = [name for name in data.conditions.attributes if name not in changed]
        values = {name: data.raw.attributes[name][image] for name in null}
        return image, unnamed(data.raw.prompts[image], values)

    def _embedded(self, texts: Sequence[tuple[int, str]]) -> Cond:
        """Conditions of images' captions or variants of them: arrays [text, ...]. A variant that is
        the caption of another image has that one's; others are computed and rounded as the arrays
        are, so that equal captions never differ by their rounding."""
        stored, condition = self._stored, self._condition
        rows = [i if caption == stored[i] else self._rows.get(caption) for i, caption in texts]
        new = [place for place, row in enumerate(rows) if row is None]

        def kept(text: np.ndarray, leaf: Any) -> np.ndarray:
            return text[[row or 0 for row in rows]].astype(leaf.dtype)

        found = jax.tree.map(kept, self._arrays.text, condition)
        if not new:
            return found

        def filled(found: np.ndarray, text: np.ndarray, computed: np.ndarray) -> np.ndarray:
            found[new] = computed.astype(text.dtype)
            return found

        computed = self._encoder.texts([texts[place][1] for place in new])
        return jax.tree.map(filled, found, self._arrays.text, computed)

    @cached_property
    def _rows(self) -> dict[str, int]:
        """Captions whose embeddings are there -> the first row of each."""
        return {caption: row for row, caption in reversed(list(enumerate(self._stored)))}

    @cached_property
    def _captions(self) -> np.ndarray:
        """A number for each distinct caption, by training row: int [n, 1]."""
        prompts = np.array(self._dataset.captions)[self._dataset.train_index]
        return np.unique(prompts, return_inverse=True)[1].reshape(-1, 1)

    @cached_property
    def _first(self) -> dict[tuple[str, ...], int]:
        """Values of the conditioning attributes -> the first image that has them."""
        columns = [self._dataset.raw.attributes[n] for n in self._dataset.conditions.attributes]
        found: dict[tuple[str, ...], int] = {}
        for number, row in enumerate(zip(*columns, strict=True)):
            found.setdefault(row, number)
        return found

    def _captioned(self, values: Mapping[str, str], advice: str) -> int:
        key = tuple(values.get(name, "") for name in self._dataset.conditions.attributes)
        if key not in self._first:
            raise UsageError(
                f"no image of the data set has {dict(values)}, so there is no caption for it; ask "
                f"with a value for each of {list(self._dataset.conditions.attributes)} that occur "
                f"together. {advice}"
            )
        return self._first[key]

    def _text(self, text: str) -> Cond:
        if text not in self._texts:
            found = self._encoder.texts([text])
            self._texts[text] = jax.tree.map(lambda a: np.asarray(a[0]), found)
        return self._texts[text]
