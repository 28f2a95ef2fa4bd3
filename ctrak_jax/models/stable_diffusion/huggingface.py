"""The one place that imports diffusers and transformers, which are optional: on first use."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from logging import LogRecord
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from ctrak_jax.errors import UsageError, pip_install

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
            f"{pip_install('ctrak-jax[diffusers]')}."
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
    how = {"dtype": dtype, "use_memory_efficient_attention": efficient_attention}
    return _build(FlaxUNet2DConditionModel, config, **how)


def torch_unet(config: Mapping[str, Any]) -> Any:
    """diffusers' UNet for PyTorch, attention written out: a peer that is timed beside ours."""
    with _extra():
        from diffusers.models.attention_processor import AttnProcessor
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    made = UNet2DConditionModel(**config)
    made.set_attn_processor(AttnProcessor())
    return made


def autoencoder(config: Mapping[str, Any]) -> nn.Module:
    """FlaxAutoencoderKL of a ``vae/config.json``."""
    with _extra():
        from diffusers.models.vae_flax import FlaxAutoencoderKL
    return _build(FlaxAutoencoderKL, config)


def _build(cls: Any, config: Mapping[str, Any], **more: Any) -> nn.Module:
    known = {field.name for field in fields(cls)} - {"parent", "name", "dtype"}
    chosen = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in config.items()
        if key in known
    }
    return cls(**(chosen | more))


def text_encoder(config: Mapping[str, Any]) -> nn.Module:
    """CLIP's text transformer of a ``text_encoder/config.json``."""
    with _extra():
        from transformers import CLIPTextConfig
        from transformers.models.clip.modeling_flax_clip import FlaxCLIPTextModule
    return FlaxCLIPTextModule(CLIPTextConfig(**config))


def clip(config: Mapping[str, Any]) -> nn.Module:
    """CLIP's text and image transformers of a ``config.json``."""
    with _extra():
        from transformers import CLIPConfig
        from transformers.models.clip.modeling_flax_clip import FlaxCLIPModule
    return FlaxCLIPModule(CLIPConfig(**config))


def with_vocabulary(module: Any, size: int) -> nn.Module:
    """The text transformer with another number of tokens."""
    config = module.config.to_dict() | {"vocab_size": size}
    return module.clone(config=type(module.config)(**config))
