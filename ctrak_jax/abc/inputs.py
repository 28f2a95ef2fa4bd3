"""What a text-to-image network is given of the AbC benchmark: LAION rows, exemplars and questions.

A task's customised model is that of textual inversion: the network of ``model.checkpoint`` and a
new token, whose vectors are in the task's model folder (:mod:`ctrak_jax.abc.tokens`). The task's
texts are read with that token. Where the folder holds no such file the text encoder splits the
token into those that it knows.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np

from ctrak_jax.abc.tokens import learned_of, tokens_of
from ctrak_jax.data.abc import EMBEDDINGS, LATENTS, Laion, Task
from ctrak_jax.data.abc.squares import squares
from ctrak_jax.errors import UsageError
from ctrak_jax.inputs import arrays
from ctrak_jax.inputs.base import NegativeRule, SampleInputs
from ctrak_jax.inputs.encoder import BatchEncoder
from ctrak_jax.models.stable_diffusion import CLIPText, Component
from ctrak_jax.models.stable_diffusion.embedding_files import load_embeddings
from ctrak_jax.models.stable_diffusion.textual_inversion import add_tokens
from ctrak_jax.prompts import without
from ctrak_jax.store.files import digest

APART = 2**30
"""Keeps an exemplar's noise from being that of the LAION row of its number."""


class TaskPrompt(NamedTuple):
    """A text, and the file of those of its tokens that the text encoder does not have."""

    text: str
    learned: Path | None = None


class TaskQuestion(NamedTuple):
    """A task in words: c, c without the concept, and the concept, which is the token."""

    prompt: TaskPrompt
    minus: TaskPrompt
    token: str


def question_of(number: int, task: Task) -> TaskQuestion:
    """The question of a task: the concept is the customised token, c_minus the prompt without it.

    The token alone and not the noun beside it, of which the model knew before the exemplars came.
    """
    tokens = tokens_of(task.prompt)
    if not tokens:
        raise UsageError(
            f"task {number}: the prompt {task.prompt!r} has no token in angle brackets, such as "
            "<new1>, so there is no concept to ask about; fix the list of tasks."
        )
    learned = learned_of(task)
    try:
        minus = without_tokens(task.prompt)
    except UsageError as error:
        raise UsageError(f"task {number}: {error}") from None
    prompts = TaskPrompt(task.prompt, learned), TaskPrompt(minus, learned)
    return TaskQuestion(*prompts, " ".join(tokens))


def without_tokens(text: str) -> str:
    """A text without its tokens in angle brackets.

    Raises:
        UsageError: no word of content is left beside them.
    """
    for token in tokens_of(text):
        text = without(text, token)
    return text


class Exemplars(NamedTuple):
    """The exemplars of all customised models, each model's once, one after the other, then the
    decoys of each (:mod:`ctrak_jax.abc.controls`).

    Attributes:
        files: pictures of the exemplars.
        decoys: LAION's rows.
        prompts: what exemplars and decoys are denoised under.
        of: the rows of each task, its exemplars first.
    """

    files: tuple[Path, ...]
    decoys: tuple[int, ...]
    prompts: tuple[TaskPrompt, ...]
    of: tuple[tuple[int, ...], ...]


def exemplars_of(tasks: Sequence[Task]) -> Exemplars:
    """The exemplars of some tasks, many of which share a model, under what they were customised
    under."""
    rows: list[tuple[Path, TaskPrompt]] = []
    known: dict[tuple[tuple[Path, ...], TaskPrompt], tuple[int, ...]] = {}
    of = []
    for task in tasks:
        key = task.exemplars, TaskPrompt(task.train_prompt, learned_of(task))
        if key not in known:
            known[key] = tuple(range(len(rows), len(rows) + len(task.exemplars)))
            rows += [(file, key[1]) for file in task.exemplars]
        of.append(known[key])
    files, prompts = zip(*rows, strict=True)
    return Exemplars(files, (), prompts, tuple(of))


class TaskEncoder:
    """Pictures and texts of the tasks into latents [h, w, c] and conditions."""

    def __init__(self, encoder: BatchEncoder, latent: tuple[int, int, int]) -> None:
        self._encoder, self._latent = encoder, latent
        self._known: dict[TaskPrompt, np.ndarray] = {}
        self._learned: tuple[Path, Component[CLIPText]] | None = None
        self._lock = Lock()  # batches are read in threads

    def latents(self, files: Sequence[Path]) -> np.ndarray:
        """Pictures, resized and cropped to their centred square, as latents [n, h, w, c]."""
        side = self._latent[0] * self._encoder.codecs.image.network.shrink
        return self._encoder.encode(squares(files, side))

    def embedding(self, prompt: TaskPrompt) -> np.ndarray:
        """[token, width], computed once."""
        with self._lock:
            if prompt not in self._known:
                encoder = self._text_encoder(prompt.learned)
                self._known[prompt] = self._encoder.texts([prompt.text], encoder)[0]
            return self._known[prompt]

    def _text_encoder(self, learned: Path | None) -> Component[CLIPText] | None:
        if learned is None:
            return None
        if self._learned is None or self._learned[0] != learned:  # one alone: it is large
            tokens = load_embeddings(learned)
            self._learned = learned, add_tokens(self._encoder.codecs.text, tokens)
        return self._learned[1]


class AbcInputs(SampleInputs):
    """What LAION rows and exemplars have in common; ``index`` fixes their random numbers [n]."""

    def __init__(
        self, laion: Laion, encoder: TaskEncoder, negative: NegativeRule, index: np.ndarray
    ) -> None:
        self._laion, self._encoder, self._negative = laion, encoder, negative
        self._index = index

    @property
    def null(self) -> np.ndarray:
        return self._encoder.embedding(TaskPrompt(""))

    def named(self, rows: np.ndarray) -> np.ndarray:
        return np.zeros((len(rows), 0), np.float32)  # captions alone, no attributes

    def negatives(self, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
        kind, number, prompt = self._negative
        if kind == "other":
            count = len(self._laion)
            number = min(number, count - 1)
            # A row itself is 0 steps from it: every other LAION row may be drawn.
            steps = [
                1 + np.random.default_rng((0, i)).choice(count - 1, number, replace=False)
                for i in self._index[rows].tolist()
            ]
            others = (self._index[rows, None] + np.stack(steps)) % count
            return self._laion.text[others].astype(np.float32)
        text = self._encoder.embedding(TaskPrompt(prompt))
        return np.broadcast_to(text, (len(rows), 1, *text.shape))


class LaionInputs(AbcInputs):
    """Rows of the mapped arrays, read when used; latents are multiplied by ``factor``."""

    def __init__(self, folder: Path, factor: float, laion: Laion, *args, **kwargs) -> None:
        super().__init__(laion, *args, **kwargs)
        self._folder, self._factor = folder, factor

    @cached_property
    def key(self) -> dict[str, str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        found = {"encoded": arrays.fingerprint(self._folder, (LATENTS, EMBEDDINGS))}
        return found if self._factor == 1.0 else {**found, "factor": repr(self._factor)}

    def samples(self, rows: np.ndarray, *, mirrored: bool = False) -> np.ndarray:
        return self.latents(self._index[rows], mirrored=mirrored)

    def latents(self, index: np.ndarray, *, mirrored: bool = False) -> np.ndarray:
        """Latents [n, h, w, c] by their rows in the file."""
        half = self._laion.flipped if mirrored else self._laion.latents
        found = half[index].astype(np.float32)
        return found if self._factor == 1.0 else found * np.float32(self._factor)

    def conditions(self, rows: np.ndarray) -> np.ndarray:
        return self._laion.text[self._index[rows]].astype(np.float32)


class ExemplarInputs(AbcInputs):
    """Exemplars under their prompts, encoded when used, and decoys: rows of ``laion``. ``codecs``
    is the hash of the autoencoder and the text encoder."""

    def __init__(self, exemplars: Exemplars, laion: LaionInputs, codecs: str, *args) -> None:
        super().__init__(*args)
        self._exemplars, self._laion_inputs, self._codecs = exemplars, laion, codecs

    @cached_property
    def key(self) -> dict[str, str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        files, decoys, prompts, _ = self._exemplars
        pictures = [content(file) for file in files]
        drawn = [[*decoys, self._laion_inputs.key]] if decoys else []
        texts = [prompt_key(prompt) for prompt in prompts]
        return {"encoded": digest([self._codecs, pictures, texts, *drawn])}

    def samples(self, rows: np.ndarray, *, mirrored: bool = False) -> np.ndarray:
        if mirrored:
            raise ValueError("exemplars have no mirrored copies.")
        distinct, back = np.unique(rows, return_inverse=True)
        files, decoys = self._exemplars.files, np.array(self._exemplars.decoys, int)
        own, others = np.split(distinct, [np.searchsorted(distinct, len(files))])
        found = [self._encoder.latents([files[row] for row in own])] if len(own) else []
        if len(others):
            found.append(self._laion_inputs.latents(decoys[others - len(files)]))
        return np.concatenate(found)[back]

    def conditions(self, rows: np.ndarray) -> np.ndarray:
        return np.stack([self._encoder.embedding(self._exemplars.prompts[row]) for row in rows])


def content(file: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def prompt_key(prompt: TaskPrompt) -> list[str | None]:
    """What an embedding depends on beside the text encoder."""
    return [prompt.text, prompt.learned and content(prompt.learned)]
