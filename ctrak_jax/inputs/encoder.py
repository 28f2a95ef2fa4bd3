"""Images and texts into what a text-to-image network takes, on all devices, batches of any size."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from ctrak_jax import devices
from ctrak_jax.attribution import stacked
from ctrak_jax.data.dataset import to_uint8, to_unit
from ctrak_jax.errors import UsageError
from ctrak_jax.models.pretrained import codecs_of, token_reader
from ctrak_jax.models.stable_diffusion import (
    CLIPText,
    Codecs,
    Component,
    ModelFiles,
)
from ctrak_jax.typing import Array, Cond, Params


class BatchEncoder:
    """The autoencoder and the text encoder of a model; both are read when first used."""

    def __init__(self, model: ModelFiles | Path, mesh: Mesh, batch: int) -> None:
        """
        Args:
            model: its files, or its folder.
            mesh: the devices.
            batch: images or texts side by side, over all devices.
        """
        self._model, self._mesh = model, mesh
        self._batch = batch + -batch % mesh.size
        self._embed: dict[Any, Callable[..., Any]] = {}
        self._codecs: Codecs | None = None
        self._lock = Lock()  # batches are read in threads

    @property
    def codecs(self) -> Codecs:
        with self._lock:
            if self._codecs is None:
                self._codecs = codecs_of(self._model)
            return self._codecs

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Images uint8 [n, H, W, 3] -> latents float32 [n, h, w, c]."""
        return self._run(self._encode, self.codecs.image.params, to_unit(images))

    def decode(self, latents: Array) -> np.ndarray:
        """Latents [n, h, w, c] -> images uint8 [n, H, W, 3]."""
        return to_uint8(self._run(self._decode, self.codecs.image.params, np.asarray(latents)))

    def texts(self, texts: Sequence[str], encoder: Component[CLIPText] | None = None) -> Cond:
        """Texts -> conditions, arrays [n, ...]; each distinct one is computed once.

        Args:
            encoder: the folder's with more tokens; those of one size share a program.
        """
        encoder = encoder or self.codecs.text
        network, params = encoder.network, encoder.params
        distinct = list(dict.fromkeys(texts))
        tokens = stacked([network.tokens(text) for text in distinct])
        size = tuple(leaf.shape for leaf in jax.tree.leaves(params))
        if size not in self._embed:
            self._embed[size] = self._over(network.apply)
        found = self._run(self._embed[size], params, tokens)
        rows = [distinct.index(text) for text in texts]
        return jax.tree.map(lambda leaf: leaf[rows], found)

    @cached_property
    def _encode(self) -> Callable[..., Any]:
        return self._over(self.codecs.image.network.encode)

    @cached_property
    def _decode(self) -> Callable[..., Any]:
        return self._over(self.codecs.image.network.decode)

    def _over(self, fn: Callable[[Params, Any], Any]) -> Callable[..., Any]:
        return devices.over_samples(jax.vmap(fn, (None, 0)), self._mesh)

    def _run(self, fn: Callable[..., Any], params: Params, items: Any) -> Any:
        def chosen(rows: np.ndarray) -> Any:
            return fn(params, jax.tree.map(lambda leaf: leaf[rows], items))

        return devices.in_batches(chosen, len(jax.tree.leaves(items)[0]), self._batch)


def require_distinct_prompts(model: ModelFiles | Path, asked: Iterable[tuple[str, str]]) -> None:
    """Refuse a concept that the model does not see: its words come after the last token that the
    text encoder reads, or are no words to it, or both texts name one class. What would be scored
    is rounding.

    Args:
        model: its files, or its folder.
        asked: prompts, each with the one without the concept.

    Raises:
        UsageError: the tokens of both are the same.
    """
    tokens = token_reader(model)
    for prompt, minus in asked:
        both = tokens(prompt), tokens(minus)
        if all(jax.tree.leaves(jax.tree.map(np.array_equal, *both))):
            raise UsageError(
                f"the model reads {prompt!r} as it reads {minus!r}: its text encoder does not know "
                "the words between them, or they come after its last token, or both name one "
                "class; use a shorter prompt or other words."
            )
