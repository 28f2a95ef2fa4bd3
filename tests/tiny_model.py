"""A whole Stable Diffusion model of random weights, small enough to compile many times."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.serialization import msgpack_serialize

from ctrak_jax.models.checkpoints import DIFFUSERS, TRANSFORMERS
from ctrak_jax.models.stable_diffusion import FLOAT32, autoencoder_of, unet_of
from ctrak_jax.models.text_encoders import clip_text_of
from tests.paths import FIXTURES

UNET = FIXTURES / "sd_unet"
SHALLOW = {
    "block_out_channels": [32],
    "down_block_types": ["DownBlock2D"],
    "mid_block_type": None,
    "up_block_types": ["CrossAttnUpBlock2D"],
}
VAE = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 16,
    "scaling_factor": 0.5,
}
TEXT = {
    "architectures": ["CLIPTextModel"],
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 77,
    "vocab_size": 12,
    "hidden_act": "quick_gelu",
    "bos_token_id": 10,
    "eos_token_id": 11,
    "pad_token_id": 11,
}
VOCABULARY = ["a", "b", "c", "d</w>", "a</w>", "b</w>", "c</w>", "ab", "abc</w>", "!</w>"]
SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
}


def write(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def change(file: Path, **settings: Any) -> None:
    write(file, json.loads(file.read_text()) | settings)


def random_like(template: Any, seed: int) -> Any:
    leaves, structure = jax.tree.flatten(template)
    rng = np.random.default_rng(seed)
    values = [(0.2 * rng.standard_normal(leaf.shape)).astype(np.float32) for leaf in leaves]
    return jax.tree.unflatten(structure, values)


def write_model(folder: Path, *, shallow: bool = False) -> Path:
    """PyTorch weights for the UNet, Flax ones for the others.

    Args:
        shallow: a UNet of one level without a middle, and Flax weights in its place, which is
            traced and compiled in a third of the time.
    """
    write(folder / "model_index.json", {"_class_name": "StableDiffusionPipeline"})
    write(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    if shallow:
        config = json.loads((UNET / "config.json").read_text()) | SHALLOW
        write(folder / "unet" / "config.json", config)
        template = jax.eval_shape(unet_of(config, UNET, FLOAT32).init, jax.random.key(0))
        file = folder / "unet" / DIFFUSERS.flax
        file.write_bytes(msgpack_serialize(random_like(template, 2)))
    else:
        shutil.copytree(UNET, folder / "unet")
    write(folder / "vae" / "config.json", VAE)
    template = jax.eval_shape(autoencoder_of(VAE, folder).init, jax.random.key(0))
    params = random_like(template, 0)
    (folder / "vae" / DIFFUSERS.flax).write_bytes(msgpack_serialize(params))
    tokens = [*VOCABULARY, "<|startoftext|>", "<|endoftext|>"]
    write(folder / "tokenizer" / "vocab.json", {token: i for i, token in enumerate(tokens)})
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\na b\nab c</w>\n")
    write(folder / "text_encoder" / "config.json", TEXT)
    template = jax.eval_shape(clip_text_of(TEXT, folder).init, jax.random.key(0))
    params = random_like(template, 1)
    file = folder / "text_encoder" / TRANSFORMERS.flax
    file.write_bytes(msgpack_serialize(params))
    return folder
