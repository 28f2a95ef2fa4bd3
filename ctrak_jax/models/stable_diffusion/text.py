"""The text encoder of Stable Diffusion for ONE text: CLIP's transformer and byte-pair tokens."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ctrak_jax.errors import UsageError
from ctrak_jax.models.lora.layers import LayerAdapter, adapting
from ctrak_jax.models.stable_diffusion import weights
from ctrak_jax.models.stable_diffusion.config_file import Component
from ctrak_jax.models.stable_diffusion.source import (
    ModelFiles,
    Part,
    model_files,
)
from ctrak_jax.models.text_encoders.clip import CLIPTextModule, CLIPTextOutput, clip_text_of
from ctrak_jax.models.tokenizers import Tokenizer, TokenizerFiles, encoder_tokenizer
from ctrak_jax.typing import Array, Params, PRNGKey


@dataclass(frozen=True)
class CLIPText:
    """A :class:`ctrak_jax.models.network.TextEncoder` over CLIP's text transformer; its tokenizer
    pads or cuts a text to ``length`` tokens, the embedding is ``width`` wide. The matrices of
    adapters, where there are any, stand beside the kernels in the parameters."""

    module: CLIPTextModule
    tokenize: Callable[[str], np.ndarray]
    length: int
    width: int
    adapters: tuple[LayerAdapter, ...] = ()

    def tokens(self, text: str, /) -> Int[np.ndarray, " token"]:
        """Token numbers; what goes beyond the encoder's length is cut off, as in its training."""
        return self.tokenize(text)

    def apply(self, params: Params, tokens: Int[Array, " token"], /) -> Float[Array, "token width"]:
        """The last hidden states: what Stable Diffusion is conditioned on."""
        with adapting(self.adapters):
            found = self.module.apply({"params": params}, jnp.asarray(tokens, jnp.int32))
        assert isinstance(found, CLIPTextOutput)
        return found.last

    def init(self, key: PRNGKey) -> Params:
        """Fresh parameters; under ``jax.eval_shape`` their shapes."""
        return self.module.init(key, jnp.zeros(1, jnp.int32))["params"]

    def with_vocabulary(self, size: int) -> "CLIPText":
        """The same with another number of tokens."""
        settings = {**self.module.transformer, "vocabulary": size}
        return replace(self, module=self.module.clone(transformer=settings))


def text_length(config: Mapping[str, Any]) -> int:
    """Tokens of a text, by a ``text_encoder/config.json``."""
    return config.get("max_position_embeddings", 77)


def text_tokenizer(model: ModelFiles | Path) -> Tokenizer:
    """The tokenizer of a model, without the weights."""
    files = model_files(model)
    return encoder_tokenizer(files.tokenizer(), text_length(files.config("text_encoder")[0]))


def text_encoder_of(config: Mapping[str, Any], file: Path, words: TokenizerFiles) -> CLIPText:
    """The network that a ``text_encoder/config.json`` describes, with a tokenizer; errors name
    ``file``."""
    found = clip_text_of(config, file)
    tokenize = encoder_tokenizer(words, found.length)
    largest = max(tokenize.vocabulary.values())
    if largest >= config["vocab_size"]:
        raise UsageError(
            f"the tokenizer numbers its tokens up to {largest}, the text encoder of {file} has "
            f"{config['vocab_size']}; use the tokenizer and the text encoder of one model."
        )
    return CLIPText(found.module, tokenize, found.length, found.width)


def text_template(config: Mapping[str, Any], file: Path) -> Params:
    """The shapes of a text encoder's parameters, without a tokenizer."""
    return jax.eval_shape(clip_text_of(config, file).init, jax.random.key(0))


def text_encoder_from(part: Part, words: TokenizerFiles) -> Component[CLIPText]:
    """A text encoder with its parameters and a tokenizer."""
    return weights.load(part.weights(), text_encoder_of(part.config, part.file, words))
