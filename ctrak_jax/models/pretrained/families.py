"""What each kind of published model is made of, by the pipeline that its folder is for."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ctrak_jax.errors import UsageError
from ctrak_jax.models import stable_diffusion as sd
from ctrak_jax.models.checkpoints.config_file import read_config
from ctrak_jax.models.denoiser import Compute
from ctrak_jax.models.latent_dit import LatentDiTDenoiser, latent_dit_of
from ctrak_jax.models.lora.files import read_loras
from ctrak_jax.models.mmdit import FluxDenoiser, SD3Denoiser, flux_of, sd3_of
from ctrak_jax.models.mmdit.flux import PATCH
from ctrak_jax.models.network import SizedTextCondition, TextCondition
from ctrak_jax.models.pretrained.flow import flow_of
from ctrak_jax.models.pretrained.texts import (
    ClassNames,
    FluxText,
    LongReader,
    OneText,
    Reader,
    SD3Text,
    XLText,
    class_numbers,
)
from ctrak_jax.models.stable_diffusion import Codecs, Component, ModelFiles, Noise, model_files
from ctrak_jax.models.stable_diffusion.autoencoder import autoencoder_from
from ctrak_jax.models.stable_diffusion.source.files import PIPELINES
from ctrak_jax.models.stable_diffusion.unet import SIZES, unet_from, unet_of
from ctrak_jax.models.text_encoders import clip_text_of, load_t5
from ctrak_jax.models.text_encoders.clip import clip_text_from
from ctrak_jax.models.tokenizers import (
    Tokenizer,
    encoder_tokenizer,
    load_t5_tokenizer,
    tokenizer_files,
)
from ctrak_jax.models.transformers import Transformer, load_transformer, with_loras
from ctrak_jax.typing import Cond

Network = sd.UNet | Transformer
XL, SD3, FLUX, DIT, SMALL = (
    "StableDiffusionXLPipeline",
    "StableDiffusion3Pipeline",
    "FluxPipeline",
    "DiTPipeline",
    "SmallFlowPipeline",
)
"""``_class_name`` of a ``model_index.json``; the last is of the models trained here."""
SUPPORTED = "Stable Diffusion 1.x, 2.x, XL, 3 or 3.5, FLUX.1 (dev or schnell) or DiT"
T5_TOKENS = {SD3: 256, FLUX: 512}
"""Tokens of T5 where ``model.t5_tokens`` says nothing: what the pipelines take."""
SCHNELL_TOKENS = 256
"""The same of FLUX.1-schnell, which was trained on no more."""


class Described(NamedTuple):
    """What the JSON files of a model say of it.

    Attributes:
        network: without parameters.
        noise: that it was trained on.
        condition: the shapes and dtypes of its arrays.
    """

    network: Network
    noise: Noise
    condition: Cond


def pipeline_of(files: ModelFiles) -> str:
    """Which pipeline a model is for.

    Raises:
        UsageError: one that is not supported; one line.
    """
    if files.rest is None or files.is_single_file:
        return PIPELINES[0]
    file = files.rest / "model_index.json"
    name = read_config(file).get("_class_name") if file.exists() else PIPELINES[0]
    if name not in (*PIPELINES, *FAMILIES):
        raise UsageError(f"{file}: pipeline {name!r} is not supported; use a model of {SUPPORTED}.")
    return name


def describe(files: ModelFiles, compute: Compute, image: int = 0) -> Described:
    """A model by its JSON files alone.

    Args:
        files: where they are.
        compute: how the network computes.
        image: height and width of the pictures, of which networks of any size take the latents'; 0
            for the size they were trained for.
    """
    name = pipeline_of(files)
    if name in PIPELINES:
        network, noise = sd.network_in(files, compute), sd.noise_in(files)
        tokens = sd.text_length(files.config("text_encoder")[0])
        return Described(network, noise, _array(tokens, network.text_width))
    if files.prediction is not None and name != XL:
        raise UsageError(
            f"model.prediction={files.prediction}: {files.checkpoint} says what it predicts; leave "
            "it out."
        )
    return FAMILIES[name].describe(files, compute, image)


def load_network(files: ModelFiles, compute: Compute, side: int) -> Component[Any]:
    """The denoiser with its parameters, and its adapters beside them; ``side`` is that of its
    latents."""
    name = pipeline_of(files)
    if name in PIPELINES:
        return sd.load_network(files, compute)
    if name == XL:
        return with_loras(unet_from(files.part("unet"), compute), files.loras)
    found = load_transformer(files.checkpoint / "transformer", compute, files.loras)
    return Component(_sized(found.network, side), found.params)


def codecs_of(model: ModelFiles | Path) -> Codecs:
    """What turns images and texts into a model's latents and conditions."""
    files = model_files(model)
    name = pipeline_of(files)
    if name in PIPELINES:
        return sd.load_codecs(files)
    return Codecs(load_text(files), autoencoder_from(files.part("vae")))


def load_text(files: ModelFiles) -> Component[Any]:
    """What reads a text, with its parameters; of another model than Stable Diffusion 1.x or 2.x."""
    return FAMILIES[pipeline_of(files)].text(files)


def token_reader(model: ModelFiles | Path) -> Callable[[str], Any]:
    """What the text encoders of a model read of a text, without their weights."""
    files = model_files(model)
    name = pipeline_of(files)
    if name in PIPELINES:
        return sd.text_tokenizer(files)
    if name == DIT:
        return _class_names(files).tokens
    every = FAMILIES[name].tokenizers(files)
    return lambda text: tuple(tokenize(text) for tokenize in every)


def longest_tokenizer(model: ModelFiles | Path) -> Tokenizer | None:
    """The tokenizer that reads most of a text; None where classes are read."""
    files = model_files(model)
    name = pipeline_of(files)
    if name in PIPELINES:
        return sd.text_tokenizer(files)
    return max(FAMILIES[name].tokenizers(files), key=lambda one: one.length, default=None)


class Family(NamedTuple):
    """One kind of model.

    Attributes:
        describe: the network, its noise and condition.
        text: what reads a text, with its parameters.
        tokenizers: of its text encoders.
    """

    describe: Callable[[ModelFiles, Compute, int], Described]
    text: Callable[[ModelFiles], Component[Any]]
    tokenizers: Callable[[ModelFiles], list[Tokenizer]]


def _array(*shape: int, dtype: Any = jnp.float32) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


def _text_condition(tokens: int, network: SD3Denoiser | FluxDenoiser) -> TextCondition:
    return TextCondition(_array(tokens, network.text_width), _array(network.pooled_width))


def _adapted(network: Any, files: ModelFiles) -> Any:
    """A network with the adapters of its LoRAs."""
    if not files.loras:
        return network
    template = jax.eval_shape(network.init, jax.random.key(0))
    return replace(network, adapters=read_loras(files.loras, template).unet)


def _sized(network: Any, side: int) -> Any:
    """A network of image and text for latents of another size."""
    if isinstance(network, LatentDiTDenoiser):
        return network
    return replace(network, latent_shape=(side, side, network.latent_shape[-1]))


def _side(files: ModelFiles, image: int, network: SD3Denoiser | FluxDenoiser) -> int:
    if not image:
        return network.latent_shape[0]
    return image // _shrink(files)


def _shrink(files: ModelFiles) -> int:
    """How many times smaller latents are than pictures."""
    return 2 ** (len(files.config("vae")[0].get("block_out_channels", ())) - 1)


def _flow(
    network: SD3Denoiser | FluxDenoiser, patch: int, files: ModelFiles, image: int
) -> tuple[Any, Noise]:
    """A network for pictures of a size, and its levels."""
    sized = _sized(_adapted(network, files), _side(files, image, network))
    tokens = (sized.latent_shape[0] // patch) ** 2
    return sized, flow_of(*files.config("scheduler"), tokens)


def _describe_xl(files: ModelFiles, compute: Compute, image: int) -> Described:
    config, file = files.config("unet")
    network = _adapted(unet_of(config, file, compute), files)
    if network.pooled_width is None:
        raise UsageError(
            f"{file}: addition_embed_type is {config.get('addition_embed_type')!r}, expected "
            "'text_time'; use a Stable Diffusion XL model."
        )
    tokens = sd.text_length(files.config("text_encoder")[0])
    text = _array(tokens, network.text_width), _array(network.pooled_width)
    condition = SizedTextCondition(*text, _array(SIZES))
    return Described(network, sd.noise_in(files), condition)


def _describe_sd3(files: ModelFiles, compute: Compute, image: int) -> Described:
    plain = sd3_of(*files.config("transformer"), compute)
    network, noise = _flow(plain, plain.module.patch, files, image)
    clip = sd.text_length(files.config("text_encoder")[0])
    return Described(network, noise, _text_condition(clip + _t5_tokens(files, SD3), network))


def _describe_flux(files: ModelFiles, compute: Compute, image: int) -> Described:
    network, noise = _flow(flux_of(*files.config("transformer"), compute), PATCH, files, image)
    return Described(network, noise, _text_condition(_t5_tokens(files, FLUX), network))


def _describe_small(files: ModelFiles, compute: Compute, image: int) -> Described:
    network = _adapted(sd3_of(*files.config("transformer"), compute), files)
    noise = flow_of(*files.config("scheduler"), network.latent_shape[0] ** 2, timesteps=None)
    tokens = sd.text_length(files.config("text_encoder")[0])
    return Described(network, noise, _text_condition(tokens, network))


def _describe_dit(files: ModelFiles, compute: Compute, image: int) -> Described:
    network = _adapted(latent_dit_of(*files.config("transformer"), compute), files)
    return Described(network, sd.noise_in(files), _array(dtype=jnp.int32))


def _t5_tokens(files: ModelFiles, name: str) -> int:
    if files.t5_tokens is not None:
        return files.t5_tokens
    few = name == FLUX and not files.config("transformer")[0].get("guidance_embeds", False)
    return SCHNELL_TOKENS if few else T5_TOKENS[name]


def _has_t5(files: ModelFiles) -> bool:
    """Stable Diffusion 3 may be without."""
    index = read_config(files.checkpoint / "model_index.json")
    return (index.get("text_encoder_3") or [None, None])[1] is not None


def _clip(files: ModelFiles, number: str = "") -> Component[Reader]:
    found = clip_text_from(files.part(f"text_encoder{number}"))
    return Component(Reader(found.network, _clip_tokenizer(files, number)), found.params)


def _clip_tokenizer(files: ModelFiles, number: str = "") -> Tokenizer:
    length = clip_text_of(*files.config(f"text_encoder{number}")).length
    return encoder_tokenizer(tokenizer_files(files.checkpoint / f"tokenizer{number}"), length)


def _t5_tokenizer(files: ModelFiles, name: str, number: str) -> Tokenizer:
    return load_t5_tokenizer(files.checkpoint / f"tokenizer{number}", _t5_tokens(files, name))


def _t5(files: ModelFiles, name: str, number: str) -> Component[LongReader]:
    found = load_t5(files.checkpoint / f"text_encoder{number}")
    tokenize = _t5_tokenizer(files, name, number)
    return Component(LongReader(found.network, tokenize, tokenize.length), found.params)


def _xl_text(files: ModelFiles) -> Component[XLText]:
    clips = [_clip(files), _clip(files, "_2")]
    index = read_config(files.checkpoint / "model_index.json")
    side = files.config("unet")[0]["sample_size"] * _shrink(files)
    zeros = bool(index.get("force_zeros_for_empty_prompt", True))
    network = XLText(tuple(part.network for part in clips), side, zeros)
    return Component(network, tuple(part.params for part in clips))


def _sd3_text(files: ModelFiles) -> Component[SD3Text]:
    clips = [_clip(files), _clip(files, "_2")]
    long = _t5(files, SD3, "_3") if _has_t5(files) else None
    every = [*clips, *([] if long is None else [long])]
    network = SD3Text(
        tuple(part.network for part in clips),
        None if long is None else long.network,
        _t5_tokens(files, SD3),
        files.config("transformer")[0]["joint_attention_dim"],
    )
    return Component(network, tuple(part.params for part in every))


def _flux_text(files: ModelFiles) -> Component[FluxText]:
    clip, long = _clip(files), _t5(files, FLUX, "_2")
    return Component(FluxText(clip.network, long.network), (clip.params, long.params))


def _small_text(files: ModelFiles) -> Component[OneText]:
    clip = _clip(files)
    return Component(OneText(clip.network), clip.params)


def _class_names(files: ModelFiles) -> ClassNames:
    labels = read_config(files.checkpoint / "model_index.json").get("id2label") or {}
    classes = files.config("transformer")[0]["num_embeds_ada_norm"]
    return ClassNames(class_numbers(labels), classes)


def _dit_text(files: ModelFiles) -> Component[ClassNames]:
    return Component(_class_names(files), {})


def _clip_tokenizers(files: ModelFiles) -> list[Tokenizer]:
    return [_clip_tokenizer(files), _clip_tokenizer(files, "_2")]


def _sd3_tokenizers(files: ModelFiles) -> list[Tokenizer]:
    clips = _clip_tokenizers(files)
    return [*clips, _t5_tokenizer(files, SD3, "_3")] if _has_t5(files) else clips


def _flux_tokenizers(files: ModelFiles) -> list[Tokenizer]:
    return [_clip_tokenizer(files), _t5_tokenizer(files, FLUX, "_2")]


FAMILIES: Mapping[str, Family] = {
    XL: Family(_describe_xl, _xl_text, _clip_tokenizers),
    SD3: Family(_describe_sd3, _sd3_text, _sd3_tokenizers),
    FLUX: Family(_describe_flux, _flux_text, _flux_tokenizers),
    DIT: Family(_describe_dit, _dit_text, lambda files: []),
    SMALL: Family(_describe_small, _small_text, lambda files: [_clip_tokenizer(files)]),
}
