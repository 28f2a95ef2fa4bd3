"""The published transformer in a folder, whichever it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ctrak_jax.errors import UsageError
from ctrak_jax.models.checkpoints import DIFFUSERS
from ctrak_jax.models.denoiser import Compute
from ctrak_jax.models.latent_dit import LatentDiTDenoiser, latent_dit_from
from ctrak_jax.models.lora.files import LoraFile, read_loras
from ctrak_jax.models.lora.layers import with_adapters
from ctrak_jax.models.mmdit import FluxDenoiser, SD3Denoiser, flux_from, sd3_from
from ctrak_jax.models.stable_diffusion.config_file import Component
from ctrak_jax.models.stable_diffusion.source import Part, part_in

Transformer = SD3Denoiser | FluxDenoiser | LatentDiTDenoiser

LOADERS: Mapping[str, Callable[[Part, Compute], Component[Any]]] = {
    "SD3Transformer2DModel": sd3_from,
    "FluxTransformer2DModel": flux_from,
    "DiTTransformer2DModel": latent_dit_from,
    "Transformer2DModel": latent_dit_from,
}
"""By ``_class_name``; the last is DiT's in older files, and PixArt's, which its settings tell."""


def load_transformer(
    folder: Path, compute: Compute, loras: Sequence[LoraFile] = ()
) -> Component[Transformer]:
    """The denoiser in ``folder`` (config.json and weights), with adapters on its layers.

    Raises:
        UsageError: it is of another kind, or damaged, or a LoRA is not for it; one line.
    """
    part = part_in(folder, DIFFUSERS)
    name = part.config.get("_class_name")
    load = LOADERS.get(name) if isinstance(name, str) else None
    if load is None:
        known = ", ".join(LOADERS)
        raise UsageError(
            f"{part.file}: _class_name is {name!r}, expected one of {known}; use a model of Stable "
            "Diffusion 3 or 3.5, FLUX.1 or DiT."
        )
    return with_loras(load(part, compute), loras)


def with_loras(plain: Component[Any], loras: Sequence[LoraFile]) -> Component[Any]:
    """A denoiser with adapters on its layers; those of its text encoders are not read.

    Raises:
        UsageError: a LoRA is not for it, or damaged; one line.
    """
    found = read_loras(loras, plain.params)
    params = with_adapters(plain.params, found.unet, found.matrices["unet"])
    return Component(replace(plain.network, adapters=found.unet), params)
