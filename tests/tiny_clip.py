"""A CLIP model of random weights in the folder that transformers saves."""

import json
from pathlib import Path

import jax
from flax.serialization import msgpack_serialize

from ctrak_jax.models.clip import MEAN, STD, CLIPImage
from ctrak_jax.models.clip_network import clip_of
from tests.tiny_model import VOCABULARY, random_like, write

SIDE = 16
SMALL = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
CONFIG = {
    "model_type": "clip",
    "projection_dim": 8,
    "text_config": SMALL | {"vocab_size": 12, "max_position_embeddings": 8, "eos_token_id": 11},
    "vision_config": SMALL | {"image_size": SIDE, "patch_size": 8},
}


def write_clip(folder: Path) -> Path:
    """config.json and Flax weights."""
    (folder / "config.json").write_text(json.dumps(CONFIG))
    network = CLIPImage(clip_of(CONFIG, folder), SIDE, MEAN, STD)
    params = random_like(jax.eval_shape(network.init, jax.random.key(0)), 0)
    (folder / "flax_model.msgpack").write_bytes(msgpack_serialize(params))
    return folder


def write_words(folder: Path) -> Path:
    """A tokenizer of twelve tokens."""
    tokens = [*VOCABULARY, "<|startoftext|>", "<|endoftext|>"]
    write(folder / "vocab.json", {token: number for number, token in enumerate(tokens)})
    (folder / "merges.txt").write_text("#version: 0.2\na b\nab c</w>\n")
    return folder
