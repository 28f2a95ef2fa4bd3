"""Stable Diffusion 1.x and 2.x out of a local folder in diffusers' format, for ONE sample.

The folder holds ``model_index.json`` and a folder per part, each with its config and its weights
(Flax msgpack or PyTorch safetensors; PyTorch itself is not needed). Arrays are channels last.
diffusers and transformers (the extra ``diffusers``) are imported in the module ``huggingface``
alone; :mod:`ctrak_jax.models.network` says what would have to take their place.
"""

from pathlib import Path
from typing import NamedTuple

import jax

from ctrak_jax.errors import UsageError
from ctrak_jax.models.denoiser import Denoiser, denoiser_of, eps_fn_of
from ctrak_jax.models.stable_diffusion.autoencoder import (
    KLAutoencoder,
    autoencoder_of,
    load_autoencoder,
)
from ctrak_jax.models.stable_diffusion.config_file import Component, read_config
from ctrak_jax.models.stable_diffusion.noise import Noise, read_noise
from ctrak_jax.models.stable_diffusion.text import (
    CLIPText,
    load_text_encoder,
    text_encoder_of,
    text_length,
    text_tokenizer,
)
from ctrak_jax.models.stable_diffusion.unet import FLOAT32, Compute, UNet, load_unet, unet_of
from ctrak_jax.typing import Cond, EpsFn, Image, Params, Timestep

__all__ = [
    "FLOAT32",
    "CLIPText",
    "Codecs",
    "Component",
    "Compute",
    "Noise",
    "UNet",
    "autoencoder_of",
    "denoiser_for",
    "exact_eps_fn",
    "load",
    "load_autoencoder",
    "load_codecs",
    "load_unet",
    "read_config",
    "read_noise",
    "text_encoder_of",
    "text_length",
    "text_tokenizer",
    "unet_of",
]

PIPELINES = ("StableDiffusionPipeline", "FlaxStableDiffusionPipeline")


class TextToImage(NamedTuple):
    """The noise prediction of one latent under one text embedding [token, width], and its parts."""

    denoiser: Denoiser
    network: UNet
    noise: Noise


class Codecs(NamedTuple):
    """What turns images and texts into the network's latents and conditions."""

    text: Component[CLIPText]
    image: Component[KLAutoencoder]


def load(folder: Path, compute: Compute = FLOAT32) -> TextToImage:
    """The denoiser of the model in ``folder``, for the noise it was trained on."""
    _check_index(folder)
    noise, unet = read_noise(folder / "scheduler"), load_unet(folder / "unet", compute)
    denoiser = denoiser_for(unet.network, unet.params, noise, compute)
    return TextToImage(denoiser, unet.network, noise)


def denoiser_for(network: UNet, params: Params, noise: Noise, compute: Compute) -> Denoiser:
    """A UNet with its parameters for a noise; ``exact_fn`` is float32 whatever it computes in."""
    plain = denoiser_of(network, params, *noise, remat=compute.remat)
    if compute.dtype == "float32":
        return plain
    return plain._replace(exact_fn=exact_eps_fn(network, noise))


def exact_eps_fn(network: UNet, noise: Noise) -> EpsFn:
    """The noise prediction in float32, matmuls at the highest precision of the device."""
    predict = eps_fn_of(network.in_float32(), *noise)

    def eps_fn(params: Params, x: Image, t: Timestep, cond: Cond, /) -> Image:
        with jax.default_matmul_precision("highest"):
            return predict(params, x, t, cond)

    return eps_fn


def load_codecs(folder: Path) -> Codecs:
    """The text encoder and the autoencoder of the model in ``folder``."""
    _check_index(folder)
    text = load_text_encoder(folder / "text_encoder", folder / "tokenizer")
    file = folder / "unet" / "config.json"
    wanted = read_config(file).get("cross_attention_dim")
    if wanted != text.network.width:
        raise UsageError(
            f"{folder / 'text_encoder'}: text embeddings are {text.network.width} wide, {file} "
            f"takes {wanted}; use the parts of one model."
        )
    return Codecs(text, load_autoencoder(folder / "vae"))


def _check_index(folder: Path) -> None:
    name = read_config(folder / "model_index.json").get("_class_name")
    if name not in PIPELINES:
        raise UsageError(
            f"{folder / 'model_index.json'}: pipeline {name!r} is not supported; use a Stable "
            "Diffusion 1.x or 2.x model (StableDiffusionPipeline)."
        )
