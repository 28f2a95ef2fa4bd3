"""A text as the condition of a published network, whichever encoders it is read by.

Every class here gives ``tokens(text)``, arrays of numbers, and ``apply(params, tokens)``, the
condition of ONE text. Parameters are those of the encoders, in the same order.

Sources: Podell et al. 2023 (Stable Diffusion XL), Esser et al. 2024 (3), Black Forest Labs 2024
(FLUX.1), Peebles & Xie 2023 (classes).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ctrak_jax.errors import UsageError
from ctrak_jax.models.network import SizedTextCondition, TextCondition
from ctrak_jax.models.text_encoders import CLIPTextEncoder, CLIPTextOutput, T5Text
from ctrak_jax.typing import Array, Params, PRNGKey

Tokenize = Callable[[str], np.ndarray]


class Reader(NamedTuple):
    """A CLIP text encoder and its tokenizer."""

    network: CLIPTextEncoder
    tokenize: Tokenize


class LongReader(NamedTuple):
    """T5's encoder and its tokenizer, for texts of ``length`` tokens."""

    network: T5Text
    tokenize: Tokenize
    length: int


def _init(readers: Sequence[Reader | LongReader], key: PRNGKey) -> tuple[Params, ...]:
    return tuple(reader.network.init(key) for reader in readers)


@dataclass(frozen=True)
class OneText:
    """The last hidden states of one CLIP encoder, and its pooled output: what a small transformer
    of image and text is trained with."""

    reader: Reader

    def tokens(self, text: str, /) -> np.ndarray:
        return self.reader.tokenize(text)

    def apply(self, params: Params, tokens: Array, /) -> TextCondition:
        found = self.reader.network.apply(params, tokens)
        return TextCondition(found.last, found.pooled)

    def init(self, key: PRNGKey) -> Params:
        """Fresh parameters; under ``jax.eval_shape`` their shapes."""
        return self.reader.network.init(key)


@dataclass(frozen=True)
class SD3Text:
    """Stable Diffusion 3: the penultimate states of both CLIP encoders, side by side and filled up
    with zeros to ``width``; then T5's tokens, or ``length`` tokens of zeros where there is no T5.
    Both projected texts are the pooled one."""

    clips: tuple[Reader, ...]
    t5: LongReader | None
    length: int
    width: int

    def tokens(self, text: str, /) -> tuple[np.ndarray, ...]:
        return tuple(reader.tokenize(text) for reader in self._readers)

    def apply(self, params: Params, tokens: Sequence[Array], /) -> TextCondition:
        found = _read(self.clips, params, tokens)
        short = jnp.concatenate([each.penultimate for each in found], axis=-1)
        short = jnp.pad(short, ((0, 0), (0, self.width - short.shape[-1])))
        if self.t5 is None:
            long = jnp.zeros((self.length, self.width), short.dtype)
        else:
            long = self.t5.network.apply(params[-1], tokens[-1])
        return TextCondition(jnp.concatenate([short, long]), _projected(found))

    def init(self, key: PRNGKey) -> Params:
        """Fresh parameters; under ``jax.eval_shape`` their shapes."""
        return _init(self._readers, key)

    @property
    def _readers(self) -> tuple[Reader | LongReader, ...]:
        return self.clips if self.t5 is None else (*self.clips, self.t5)


@dataclass(frozen=True)
class XLText:
    """Stable Diffusion XL: the penultimate states of both CLIP encoders, side by side, and the
    projected text of the second. Nothing is cut off a picture, and it had its size from the first.

    Attributes:
        clips: the encoders.
        side: height and width of the pictures, in pixels.
        zeros: an empty text has zeros for both.
    """

    clips: tuple[Reader, ...]
    side: int
    zeros: bool

    def tokens(self, text: str, /) -> tuple[np.ndarray, ...]:
        says = np.array(bool(text) or not self.zeros, np.float32)
        return (*(reader.tokenize(text) for reader in self.clips), says)

    def apply(self, params: Params, tokens: Sequence[Array], /) -> SizedTextCondition:
        found, says = _read(self.clips, params, tokens), tokens[-1]
        embeddings = jnp.concatenate([each.penultimate for each in found], axis=-1)
        whole = (self.side, self.side)
        sizes = jnp.asarray((*whole, 0, 0, *whole), jnp.float32)
        return SizedTextCondition(says * embeddings, says * _projected(found[-1:]), sizes)

    def init(self, key: PRNGKey) -> Params:
        """Fresh parameters; under ``jax.eval_shape`` their shapes."""
        return _init(self.clips, key)


@dataclass(frozen=True)
class FluxText:
    """FLUX.1: T5's tokens, and the pooled output of CLIP."""

    clip: Reader
    t5: LongReader

    def tokens(self, text: str, /) -> tuple[np.ndarray, ...]:
        return self.clip.tokenize(text), self.t5.tokenize(text)

    def apply(self, params: Params, tokens: Sequence[Array], /) -> TextCondition:
        of_clip, of_t5 = params
        pooled = self.clip.network.apply(of_clip, tokens[0]).pooled
        return TextCondition(self.t5.network.apply(of_t5, tokens[1]), pooled)

    def init(self, key: PRNGKey) -> Params:
        """Fresh parameters; under ``jax.eval_shape`` their shapes."""
        return _init((self.clip, self.t5), key)


@dataclass(frozen=True)
class ClassNames:
    """The number of a class by one of its names, or by the number itself; no text is the class of
    none, ``classes``."""

    numbers: Mapping[str, int]
    classes: int

    def tokens(self, text: str, /) -> np.ndarray:
        name = text.strip()
        found = self.numbers.get(name, self.classes if not name else None)
        if found is None and name.isdecimal() and int(name) < self.classes:
            found = int(name)
        if found is None:
            some = ", ".join(map(repr, list(self.numbers)[:3])) or "none has a name"
            raise UsageError(
                f"the model has no class {text!r}; give a number from 0 to {self.classes - 1}, or "
                f"a name as its model_index.json has them: {some}, ..."
            )
        return np.array(found, np.int32)

    def apply(self, params: Params, tokens: Array, /) -> Array:
        return tokens

    def init(self, key: PRNGKey) -> Params:
        """No parameters."""
        return {}


def class_numbers(labels: Mapping[str, Any]) -> dict[str, int]:
    """Names of classes, ``id2label`` of a ``model_index.json``: a class may have several, between
    commas."""
    whole = {str(names): int(number) for number, names in labels.items()}
    single = {
        name.strip(): int(number)
        for number, names in labels.items()
        for name in str(names).split(",")
    }
    return single | whole


def _read(clips: Sequence[Reader], params: Params, tokens: Sequence[Array]) -> list[CLIPTextOutput]:
    pairs = zip(clips, params, tokens, strict=False)
    return [reader.network.apply(own, numbers) for reader, own, numbers in pairs]


def _projected(found: Sequence[CLIPTextOutput]) -> Array:
    return jnp.concatenate([each.projected for each in found if each.projected is not None])
