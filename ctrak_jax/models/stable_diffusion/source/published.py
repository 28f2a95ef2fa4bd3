"""The configs of Stable Diffusion 1.x and 2.x, for a single file without a folder.

A file says which of the two it is by the width of the texts that its UNet reads. Other sizes have
the same names, and the number of heads is nowhere in them, so a folder must say them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ctrak_jax.errors import UsageError
from ctrak_jax.schedule import Prediction

WIDTHS = [320, 640, 1280, 1280]
KEYS = (
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
    "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight",
)
"""A layer of the first block, by its name in a whole model and in a UNet alone."""


def version_of(file: Path, tensors: Mapping[str, np.ndarray]) -> int:
    """1 or 2, or 0 where the file has no UNet.

    Raises:
        UsageError: it is of another size than the published models.
    """
    found = next((tensors[key].shape for key in KEYS if key in tensors), None)
    if found is None:
        return 0
    known = {(320, 768): 1, (320, 1024): 2}
    if tuple(found) not in known:
        raise UsageError(
            f"{file}: its first layer that reads texts is {tuple(found)}, Stable Diffusion 1.x has "
            "(320, 768) and 2.x (320, 1024); give the folder of its configs, tokenizer and "
            "scheduler as model.folder."
        )
    return known[tuple(found)]


def config_of(version: int, part: str, prediction: Prediction | None) -> dict[str, Any]:
    """A part's ``config.json``, or ``scheduler_config.json``."""
    return {
        "unet": _unet(version, prediction),
        "vae": VAE,
        "text_encoder": TEXT[version],
        "scheduler": SCHEDULER,
    }[part]


def _unet(version: int, prediction: Prediction | None) -> dict[str, Any]:
    cross, plain = ["CrossAttnDownBlock2D"] * 3, ["CrossAttnUpBlock2D"] * 3
    found = {
        "_class_name": "UNet2DConditionModel",
        "attention_head_dim": 8,
        "block_out_channels": WIDTHS,
        "cross_attention_dim": 768,
        "down_block_types": [*cross, "DownBlock2D"],
        "up_block_types": ["UpBlock2D", *plain],
        "in_channels": 4,
        "out_channels": 4,
        "layers_per_block": 2,
        "sample_size": 64,
    }
    if version == 2:
        found |= {
            "attention_head_dim": [width // 64 for width in WIDTHS],
            "cross_attention_dim": 1024,
            "use_linear_projection": True,
            "sample_size": 96 if prediction == "v" else 64,
        }
    return found


VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}
_CLIP: dict[str, Any] = {
    "architectures": ["CLIPTextModel"],
    "max_position_embeddings": 77,
    "vocab_size": 49408,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
}
TEXT: dict[int, dict[str, Any]] = {
    1: _CLIP
    | {
        "hidden_act": "quick_gelu",
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
    },
    2: _CLIP
    | {
        "hidden_act": "gelu",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
        "num_hidden_layers": 23,
    },
}
SCHEDULER: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
}
