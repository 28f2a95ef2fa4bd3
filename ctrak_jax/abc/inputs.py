"""What a text-to-image network is given of the AbC benchmark: LAION rows, exemplars and questions.

A task's customised model is that of textual inversion: the network of ``model.checkpoint`` and a
new token, whose vectors are in the task's model folder as ``learned_embeds.safetensors`` or
``.bin``. The task's texts are read with that token. Where the folder holds no such file the text
encoder splits the token into those that it knows.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np

from ctrak_jax.config import TrajectoryConfig
from ctrak_jax.data.abc import EMBEDDINGS, LATENTS, Laion, Task
from ctrak_jax.data.pictures import Files, Pictures
from ctrak_jax.errors import UsageError
from ctrak_jax.inputs import arrays
from ctrak_jax.inputs.base import Inputs
from ctrak_jax.inputs.encoder import Coder
from ctrak_jax.models.stable_diffusion import CLIPText, Part
from ctrak_jax.models.stable_diffusion.textual_inversion import add_tokens, load_embeddings
from ctrak_jax.prompts import without
from ctrak_jax.store.files import digest
from ctrak_jax.typing import Array

TOKEN = re.compile(r"<[^<>\s]+>")
"""A customised token, such as <new1>."""
LEARNED = ("learned_embeds.safetensors", "learned_embeds.bin")
APART = 2**30
"""Keeps an exemplar's noise from being that of the LAION row of its number."""


class Words(NamedTuple):
    """A text, and the file of those of its tokens that the text encoder does not have."""

    text: str
    learned: Path | None = None


class Asked(NamedTuple):
    """A task in words: c, c without the concept, and the concept, which is the token."""

    prompt: Words
    minus: Words
    token: str


def asked_of(number: int, task: Task) -> Asked:
    """The question of a task: the concept is the customised token, c_minus the prompt without it.

    The token alone and not the noun beside it, of which the model knew before the exemplars came.

    Raises:
        UsageError: the prompt holds no token, or hardly a word beside it.
    """
    tokens = list(dict.fromkeys(TOKEN.findall(task.prompt)))
    if not tokens:
        raise UsageError(
            f"task {number}: the prompt {task.prompt!r} has no token in angle brackets, such as "
            "<new1>, so there is no concept to ask about; mend the list of tasks."
        )
    minus, learned = task.prompt, learned_of(task)
    try:
        for token in tokens:
            minus = without(minus, token)
    except UsageError as error:
        raise UsageError(f"task {number}: {error}") from None
    return Asked(Words(task.prompt, learned), Words(minus, learned), " ".join(tokens))


def learned_of(task: Task) -> Path | None:
    """The file of a task's token, where its model folder has one."""
    return next((task.model / name for name in LEARNED if (task.model / name).is_file()), None)


class Exemplars(NamedTuple):
    """The exemplars of all customised models, each model's once, one after the other.

    Attributes:
        files, words: a picture and what it was customised under, by row. of: the rows of each task.
    """

    files: tuple[Path, ...]
    words: tuple[Words, ...]
    of: tuple[range, ...]


def exemplars_of(tasks: Sequence[Task]) -> Exemplars:
    """The exemplars of some tasks, many of which share a model."""
    files: list[Path] = []
    words: list[Words] = []
    known: dict[tuple[tuple[Path, ...], Words], range] = {}
    of = []
    for task in tasks:
        told = Words(task.train_prompt, learned_of(task))
        key = task.exemplars, told
        if key not in known:
            known[key] = range(len(files), len(files) + len(task.exemplars))
            files += task.exemplars
            words += [told] * len(task.exemplars)
        of.append(known[key])
    return Exemplars(tuple(files), tuple(words), tuple(of))


class Codec:
    """Pictures and texts of the tasks into latents and conditions."""

    def __init__(self, coder: Coder, latent: tuple[int, int, int]) -> None:
        """
        Args:
            latent: the shape of a latent [h, w, c].
        """
        self.coder, self._latent = coder, latent
        self._known: dict[Words, np.ndarray] = {}
        self._encoder: tuple[Path, Part[CLIPText]] | None = None
        self._lock = Lock()  # batches are read in threads

    def latents(self, files: Sequence[Path]) -> np.ndarray:
        """Pictures, cropped to their centred square and resized, as latents [n, h, w, c]."""
        side = self._latent[0] * self.coder.codecs.image.network.shrink
        return self.coder.encode(Pictures(Files(files), side=side)[:])

    def embedding(self, words: Words) -> np.ndarray:
        """[token, width], computed once."""
        with self._lock:
            if words not in self._known:
                encoder = self._encoder_of(words.learned)
                self._known[words] = self.coder.texts([words.text], encoder)[0]
            return self._known[words]

    def _encoder_of(self, learned: Path | None) -> Part[CLIPText] | None:
        if learned is None:
            return None
        if self._encoder is None or self._encoder[0] != learned:  # one alone: it is large
            tokens = load_embeddings(learned)
            self._encoder = learned, add_tokens(self.coder.codecs.text, tokens)
        return self._encoder[1]


class AbcInputs(Inputs):
    """What LAION rows and exemplars have in common."""

    def __init__(
        self,
        laion: Laion,
        codec: Codec,
        trajectory: TrajectoryConfig,
        index: np.ndarray,
    ) -> None:
        """
        Args:
            index: what fixes the random numbers of every row [n].
        """
        self._laion, self._codec, self._trajectory = laion, codec, trajectory
        self._index = index

    @property
    def null(self) -> np.ndarray:
        return self._codec.embedding(Words(""))

    @property
    def flipped(self) -> bool:
        return False

    def against(self, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
        wanted = self._trajectory
        if wanted.negative == "other":
            count = len(self._laion)
            negatives = min(wanted.negatives, count - 1)
            others = [
                # A row itself is 0 steps from it: every other LAION row may be drawn.
                (i + 1 + np.random.default_rng((0, i)).choice(count - 1, negatives, replace=False))
                % count
                for i in self._index[rows].tolist()
            ]
            return self._laion.text[np.stack(others)].astype(np.float32)
        prompt = wanted.negative_prompt if wanted.negative == "prompt" else ""
        text = self._codec.embedding(Words(prompt))
        return np.broadcast_to(text, (len(rows), 1, *text.shape))

    def encode(self, images: np.ndarray) -> np.ndarray:
        return self._codec.coder.encode(images)

    def decode(self, samples: Array) -> np.ndarray:
        return self._codec.coder.decode(samples)

    def prompt(self, values: Mapping[str, str]) -> str:
        return ""

    def prompt_without(self, values: Mapping[str, str], attribute: str) -> str:
        return ""

    def condition(self, values: Mapping[str, str], prompt: str) -> np.ndarray:
        return self._codec.embedding(Words(prompt))


class LaionInputs(AbcInputs):
    """Rows of the mapped arrays, read when they are asked for."""

    def __init__(self, folder: Path, laion: Laion, *args, **kwargs) -> None:
        super().__init__(laion, *args, **kwargs)
        self._folder = folder

    @cached_property
    def _fingerprint(self) -> str:
        return arrays.fingerprint(self._folder, (LATENTS, EMBEDDINGS))

    @property
    def key(self) -> dict[str, str]:
        return {"encoded": self._fingerprint}

    def samples(self, rows: np.ndarray, *, mirrored: bool = False) -> np.ndarray:
        half = self._laion.flipped if mirrored else self._laion.latents
        return half[self._index[rows]].astype(np.float32)

    def conditions(self, rows: np.ndarray) -> np.ndarray:
        return self._laion.text[self._index[rows]].astype(np.float32)


class ExemplarInputs(AbcInputs):
    """Exemplars under the prompts they were customised with, encoded when they are asked for."""

    def __init__(self, exemplars: Exemplars, codecs: str, *args, **kwargs) -> None:
        """
        Args:
            codecs: hash of the autoencoder and the text encoder.
        """
        super().__init__(*args, **kwargs)
        self._exemplars, self._codecs = exemplars, codecs

    @cached_property
    def key(self) -> dict[str, str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        files, words, _ = self._exemplars
        pictures = [content(file) for file in files]
        return {"encoded": digest([self._codecs, pictures, [words_key(w) for w in words]])}

    def samples(self, rows: np.ndarray, *, mirrored: bool = False) -> np.ndarray:
        if mirrored:
            raise ValueError("exemplars have no mirrored copies.")
        distinct, back = np.unique(rows, return_inverse=True)
        return self._codec.latents([self._exemplars.files[row] for row in distinct])[back]

    def conditions(self, rows: np.ndarray) -> np.ndarray:
        return np.stack([self._codec.embedding(self._exemplars.words[row]) for row in rows])


def content(file: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def words_key(words: Words) -> list[str | None]:
    """What an embedding depends on beside the text encoder."""
    return [words.text, words.learned and content(words.learned)]
