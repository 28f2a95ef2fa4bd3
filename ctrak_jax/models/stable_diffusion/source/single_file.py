"""Single-file checkpoints: the parts in them, by the prefixes of their names."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ctrak_jax.errors import UsageError
from ctrak_jax.log import logger
from ctrak_jax.models.checkpoints import Opened, open_file
from ctrak_jax.models.stable_diffusion.source import names

PREFIXES = {
    "unet": ("model.diffusion_model.",),
    "vae": ("first_stage_model.",),
    "text_encoder": ("cond_stage_model.transformer.", "cond_stage_model.model."),
}
"""Of a part's names in a checkpoint of the whole model."""

NO_WEIGHTS = ("model_ema.", "first_stage_model.loss.", "loss.")
"""A copy averaged over training, and what the autoencoder was trained with."""

OTHERS = {
    "conditioner.embedders.": "a Stable Diffusion XL checkpoint",
    "model.diffusion_model.joint_blocks.": "a Stable Diffusion 3 checkpoint",
    "model.diffusion_model.double_blocks.": "a Flux checkpoint",
    "double_blocks.": "a Flux checkpoint",
    "control_model.": "a ControlNet",
    "cond_stage_model.roberta.": "an AltDiffusion checkpoint",
}
NO_MODELS = {
    "a LoRA; give it as model.lora, beside model.checkpoint": (".lora", "_lora", "lora_"),
    "a textual inversion, not a model; its token is added to a text encoder": (
        *("emb_params", "string_to_param", "clip_l"),
    ),
}


class Contents(NamedTuple):
    """A single file, and the prefix that the names of each part in it have."""

    opened: Opened
    prefixes: Mapping[str, str]

    def part(self, part: str, config: Mapping[str, Any]) -> Opened:
        """A part's tensors under diffusers' names."""
        prefix = self.prefixes[part]
        inner = {
            name.removeprefix(prefix): value
            for name, value in self.opened.tensors.items()
            if name.startswith(prefix) and not name.startswith(NO_WEIGHTS)
        }
        return self.opened._replace(tensors=_diffusers_names(part, prefix, inner, config))


def _diffusers_names(
    part: str, prefix: str, inner: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    if part == "unet":
        return names.unet(inner, config)
    if part == "vae":
        return names.autoencoder(inner, config)
    return names.open_clip(inner, config) if prefix.endswith("model.") else dict(inner)


def contents(file: Path) -> Contents:
    """Open a single file and find its parts.

    Raises:
        UsageError: it is damaged, or the checkpoint of another kind of model.
    """
    opened = open_file(file)
    _refuse_others(file, opened.tensors)
    prefixes = {
        part: prefix
        for part, known in PREFIXES.items()
        for prefix in known
        if any(name.startswith(prefix) for name in opened.tensors)
    }
    if not prefixes:
        part = _only_part(opened.tensors)
        if part is None:
            raise UsageError(
                f"{file} is no Stable Diffusion checkpoint: its tensors have names such as "
                f"{next(iter(opened.tensors), None)!r}, expected model.diffusion_model.*; give "
                "the file of a Stable Diffusion 1.x or 2.x model, or a folder."
            )
        return Contents(opened, {part: ""})
    known = (*prefixes.values(), *NO_WEIGHTS)
    others = [n for n in opened.tensors if "." in n and not n.startswith(known)]
    if others:
        logger.warning("%s: %d tensors are no part and not read, %s", file, len(others), others[0])
    return Contents(opened, prefixes)


def _only_part(tensors: Collection[str]) -> str | None:
    """The part that a file without prefixes holds, under latent diffusion's or diffusers' names."""
    signs = {
        "unet": ("input_blocks.0.0.weight", "down_blocks.0.resnets.0.conv1.weight"),
        "vae": ("decoder.conv_in.weight",),
        "text_encoder": (
            "text_model.embeddings.token_embedding.weight",
            "embeddings.token_embedding.weight",
        ),
    }
    for part, known in signs.items():
        if any(name in tensors for name in known):
            return part
    return None


def _refuse_others(file: Path, tensors: Collection[str]) -> None:
    for prefix, what in OTHERS.items():
        if any(name.startswith(prefix) for name in tensors):
            raise UsageError(
                f"{file} is {what}, which is not supported; use a Stable Diffusion 1.x or 2.x "
                "model."
            )
    for what, signs in NO_MODELS.items():
        if tensors and all(any(sign in name for sign in signs) for name in tensors):
            raise UsageError(f"{file} is {what}.")
