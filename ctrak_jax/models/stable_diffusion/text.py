"""The text encoder of Stable Diffusion for ONE text: CLIP's transformer and byte-pair tokens."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ctrak_jax.errors import UsageError
from ctrak_jax.models.stable_diffusion import huggingface, weights
from ctrak_jax.models.stable_diffusion.config_file import Component, read_config
from ctrak_jax.typing import Array, Params, PRNGKey

NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


@dataclass(frozen=True)
class CLIPText:
    """A :class:`ctrak_jax.models.network.TextEncoder` over CLIP's text transformer; its tokenizer
    pads or cuts a text to ``length`` tokens, the embedding is ``width`` wide."""

    module: Any
    tokenize: Callable[[str], np.ndarray]
    length: int
    width: int

    def tokens(self, text: str, /) -> Int[np.ndarray, " token"]:
        """Token numbers; what goes beyond the encoder's length is cut off, as in its training."""
        return self.tokenize(text)

    def apply(self, params: Params, tokens: Int[Array, " token"], /) -> Float[Array, "token width"]:
        """The last hidden states: what Stable Diffusion is conditioned on."""
        ids = jnp.asarray(tokens, jnp.int32)[None]
        places = jnp.arange(self.length)[None]
        found = self.module.apply({"params": params}, ids, jnp.ones_like(ids), places)
        return found.last_hidden_state[0]

    def init(self, key: PRNGKey) -> Params:
        """Fresh parameters; under ``jax.eval_shape`` their shapes."""
        ids = jnp.zeros((1, self.length), jnp.int32)
        places = jnp.arange(self.length)[None]
        return self.module.init(key, ids, jnp.ones_like(ids), places)["params"]


def text_length(model: Path) -> int:
    """Tokens of a text, of the model in a folder: read from the text encoder's config alone."""
    return _length(read_config(model / "text_encoder" / "config.json"))


def text_tokenizer(model: Path) -> huggingface.Tokenizer:
    """The tokenizer of the model in a folder, without the weights."""
    return _read_tokenizer(model / "tokenizer", text_length(model))


def _read_tokenizer(folder: Path, length: int) -> huggingface.Tokenizer:
    for name in ("vocab.json", "merges.txt"):
        if not (folder / name).is_file():
            raise UsageError(f"{folder / name} is missing; use a folder with CLIP's tokenizer.")
    return huggingface.tokenizer(folder, length)


def _length(config: Mapping[str, Any]) -> int:
    return config.get("max_position_embeddings", 77)


def text_encoder_of(config: Mapping[str, Any], file: Path, tokenizer: Path) -> CLIPText:
    """The network that a ``text_encoder/config.json`` describes, with the tokenizer in a folder;
    errors name ``file``."""
    missing = [key for key in NEEDED if key not in config]
    if missing:
        raise UsageError(f"{file} lacks {', '.join(missing)}; use a CLIP text encoder's config.")
    length = _length(config)
    tokenize = _read_tokenizer(tokenizer, length)
    words = tokenizer / "vocab.json"
    largest = max(read_config(words).values())
    if largest >= config["vocab_size"]:
        raise UsageError(
            f"{words} numbers its tokens up to {largest}, the text encoder has "
            f"{config['vocab_size']}; use the tokenizer and the text encoder of one model."
        )
    return CLIPText(huggingface.text_encoder(config), tokenize, length, config["hidden_size"])


def load_text_encoder(encoder: Path, tokenizer: Path) -> Component[CLIPText]:
    """The text encoder in one folder (config.json and weights) with the tokenizer in another."""
    file = encoder / "config.json"
    network = text_encoder_of(read_config(file), file, tokenizer)
    return weights.load(encoder, weights.TRANSFORMERS, network)
