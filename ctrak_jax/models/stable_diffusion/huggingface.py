"""The one place where diffusers and transformers are imported: Flax modules out of their classes.

Both are optional (the extra ``diffusers``) and imported on first use.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from logging import LogRecord
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from ctrak_jax.errors import UsageError

DEPRECATED = "Flax classes are deprecated"


@contextmanager
def _extra() -> Iterator[None]:
    try:
        _silence_deprecation()
        yield
    except ImportError as error:
        raise UsageError(
            "a Stable Diffusion folder is read with the Flax classes of diffusers below 0.40 and "
            f"transformers below 5, which are not installed ({error}); run "
            "pip install 'ctrak-jax[diffusers]'."
        ) from None


@cache
def _silence_deprecation() -> None:
    """Each module says at every call that its Flax class will go: the version bounds answer it."""
    from diffusers.utils import logging

    def keep(record: LogRecord) -> bool:
        return DEPRECATED not in record.getMessage()

    for handler in logging.get_logger("diffusers").handlers:
        handler.addFilter(keep)


def unet(config: Mapping[str, Any], dtype: jnp.dtype, efficient_attention: bool) -> nn.Module:
    """FlaxUNet2DConditionModel of a ``unet/config.json``."""
    with _extra():
        from diffusers.models.unets.unet_2d_condition_flax import FlaxUNet2DConditionModel
    return _build(
        FlaxUNet2DConditionModel,
        config,
        dtype=dtype,
        use_memory_efficient_attention=efficient_attention,
    )


def autoencoder(config: Mapping[str, Any]) -> nn.Module:
    """FlaxAutoencoderKL of a ``vae/config.json``."""
    with _extra():
        from diffusers.models.vae_flax import FlaxAutoencoderKL
    return _build(FlaxAutoencoderKL, config)


def _build(cls: Any, config: Mapping[str, Any], **more: Any) -> nn.Module:
    known = {field.name for field in fields(cls)} - {"parent", "name", "dtype"}
    chosen = {key: _frozen(value) for key, value in config.items() if key in known}
    return cls(**(chosen | more))


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def text_encoder(config: Mapping[str, Any]) -> nn.Module:
    """CLIP's text transformer of a ``text_encoder/config.json``."""
    with _extra():
        from transformers import CLIPTextConfig
        from transformers.models.clip.modeling_flax_clip import FlaxCLIPTextModule
    return FlaxCLIPTextModule(CLIPTextConfig(**config))


def tokenizer(folder: Path, length: int) -> Callable[[str], np.ndarray]:
    """CLIP's byte-pair tokens of a text, padded or cut to ``length``: int32 [token].

    Args:
        folder: holds vocab.json, merges.txt and what names the special tokens.
    """
    with _extra():
        from transformers import CLIPTokenizer
    read = CLIPTokenizer.from_pretrained(str(folder))

    def tokens(text: str) -> np.ndarray:
        padded = read(text, padding="max_length", truncation=True, max_length=length)
        return np.asarray(padded["input_ids"], np.int32)

    return tokens
