"""Stable Diffusion 1.x and 2.x out of local files, for ONE sample.

A folder in diffusers' format holds ``model_index.json`` and a folder per part, each with its config
and its weights; a single file holds the weights of all parts under other names. Which forms are
read: docs/reference/model-files.md; how: :mod:`ctrak_jax.models.checkpoints`. PyTorch,
diffusers and transformers are not needed. Arrays are channels last.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax

from ctrak_jax.errors import UsageError
from ctrak_jax.models.checkpoints.config_file import read_config
from ctrak_jax.models.denoiser import FLOAT32, Compute, Denoiser, denoiser_of
from ctrak_jax.models.lora.files import LoraFile, Loras, read_loras
from ctrak_jax.models.lora.layers import merge_adapters, with_adapters
from ctrak_jax.models.stable_diffusion import weights
from ctrak_jax.models.stable_diffusion.autoencoder import (
    KLAutoencoder,
    autoencoder_from,
    autoencoder_of,
    load_autoencoder,
)
from ctrak_jax.models.stable_diffusion.config_file import Component
from ctrak_jax.models.stable_diffusion.noise import Noise, noise_of, read_noise
from ctrak_jax.models.stable_diffusion.source import ModelFiles, model_files
from ctrak_jax.models.stable_diffusion.text import (
    CLIPText,
    text_encoder_from,
    text_encoder_of,
    text_length,
    text_template,
    text_tokenizer,
)
from ctrak_jax.models.stable_diffusion.unet import UNet, load_unet, unet_of
from ctrak_jax.typing import Params

__all__ = [
    "FLOAT32",
    "CLIPText",
    "Codecs",
    "Component",
    "Compute",
    "LoraFile",
    "ModelFiles",
    "Noise",
    "UNet",
    "autoencoder_of",
    "load",
    "load_autoencoder",
    "load_codecs",
    "load_network",
    "load_unet",
    "model_files",
    "network_in",
    "noise_in",
    "read_config",
    "read_noise",
    "text_encoder_of",
    "text_length",
    "text_tokenizer",
    "unet_of",
]


class TextToImage(NamedTuple):
    """The noise prediction of one latent under one text embedding [token, width], and its parts."""

    denoiser: Denoiser
    network: UNet
    noise: Noise


class Codecs(NamedTuple):
    """What turns images and texts into the network's latents and conditions."""

    text: Component[CLIPText]
    image: Component[KLAutoencoder]


def load(model: ModelFiles | Path, compute: Compute = FLOAT32) -> TextToImage:
    """The denoiser of a model, for the noise it was trained on.

    Args:
        model: its folder or single file, or where its parts are.
        compute: how it computes.
    """
    files = model_files(model)
    noise, unet = noise_in(files), load_network(files, compute)
    denoiser = denoiser_of(unet.network, unet.params, *noise, compute)
    return TextToImage(denoiser, unet.network, noise)


def noise_in(model: ModelFiles) -> Noise:
    """The noise that a model was trained on, and what it predicts."""
    return noise_of(*model.config("scheduler"), model.prediction)


def network_in(model: ModelFiles, compute: Compute) -> UNet:
    """The denoiser of a model without its parameters: of a folder its configs are enough."""
    config, file = model.config("unet")
    plain = _of_one_text(unet_of(config, file, compute), file)
    if not model.loras:
        return plain
    template = jax.eval_shape(plain.init, jax.random.key(0))
    return replace(plain, adapters=_loras(model, template).unet)


def load_network(model: ModelFiles, compute: Compute) -> Component[UNet]:
    """The denoiser of a model with its parameters, and its adapters beside them."""
    model.require_stable_diffusion()
    part = model.part("unet")
    network = _of_one_text(unet_of(part.config, part.file, compute), part.file)
    plain = weights.load(part.weights(), network, keep=compute.keeps_half)
    if not model.loras:
        return plain
    found = _loras(model, plain.params)
    params = with_adapters(plain.params, found.unet, found.matrices["unet"])
    return Component(replace(plain.network, adapters=found.unet), params)


def _of_one_text(network: UNet, file: Path) -> UNet:
    if network.pooled_width is not None:
        raise UsageError(
            f"{file}: addition_embed_type is 'text_time', a Stable Diffusion XL network, which is "
            "read out of a whole folder of StableDiffusionXLPipeline alone."
        )
    return network


def _loras(model: ModelFiles, unet: Params) -> Loras:
    return read_loras(model.loras, unet, lambda: text_template(*model.config("text_encoder")))


def load_codecs(model: ModelFiles | Path) -> Codecs:
    """The text encoder and the autoencoder of a model."""
    files = model_files(model)
    files.require_stable_diffusion()
    part = files.part("text_encoder")
    text = text_encoder_from(part, files.tokenizer())
    config, file = files.config("unet")
    wanted = config.get("cross_attention_dim")
    if wanted != text.network.width:
        raise UsageError(
            f"{part.file}: text embeddings are {text.network.width} wide, {file} "
            f"takes {wanted}; use the parts of one model."
        )
    return Codecs(_adapted(text, files), autoencoder_from(files.part("vae")))


def _adapted(text: Component[CLIPText], files: ModelFiles) -> Component[CLIPText]:
    """The text encoder with its adapters in its weights: no gradient is taken of it."""
    if not files.loras:
        return text
    unet = jax.eval_shape(unet_of(*files.config("unet"), FLOAT32).init, jax.random.key(0))
    found = read_loras(files.loras, unet, lambda: text.params)
    params = with_adapters(text.params, found.text, found.matrices["text"])
    return Component(text.network, merge_adapters(params, adapters=found.text))
