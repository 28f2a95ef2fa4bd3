"""Sizes of published networks and of their cross-attention, from JSON files alone."""

from functools import cache
from pathlib import Path

import jax
import pytest

from ctrak_jax.gradient import select
from ctrak_jax.models.checkpoints.config_file import read_config
from ctrak_jax.models.denoiser import FLOAT32
from ctrak_jax.models.lora.layers import add_adapters
from ctrak_jax.models.mmdit import flux_of, sd3_of
from ctrak_jax.models.stable_diffusion import unet_of

ROOT = Path("configs")
LARGE = {
    "dual_attention_layers": [],
    "num_layers": 38,
    "num_attention_heads": 38,
    "caption_projection_dim": 2432,
    "pos_embed_max_size": 192,
}
"""What Stable Diffusion 3.5 large has otherwise than medium."""
SIZES = {
    "sdxl": (unet_of, "sdxl", {}, 2_567_463_684, 350, 545_670_400),
    "sd35-medium": (sd3_of, "sd35-medium", {}, 2_243_171_520, 190, 224_279_040),
    "sd35-large": (sd3_of, "sd35-medium", LARGE, 8_056_627_520, 302, 893_475_456),
    "flux-dev": (flux_of, "flux-dev", {}, 11_901_408_320, 152, 717_459_456),
}
"""Parameters, and those of the cross-attention with the number of their tensors, as counted in the
published PyTorch classes."""


@cache
def shapes(name: str):
    build, folder, changes, *_ = SIZES[name]
    file = ROOT / folder / ("unet" if build is unet_of else "transformer") / "config.json"
    network = build(read_config(file) | changes, file, FLOAT32)
    return jax.eval_shape(network.init, jax.random.key(0))


@pytest.mark.parametrize("name", SIZES)
def test_parameters_of_published_networks(name):
    *_, whole, tensors, chosen = SIZES[name]
    found = select(shapes(name), ("cross-attention",))
    assert found.size == chosen
    assert len(found.params) == tensors
    assert found.size + sum(leaf.size for leaf in found.others.values()) == whole


def test_adapters_on_the_cross_attention_of_a_published_network():
    """Rank 4: 4 (1536 + 1536) numbers on each of 95 matrices."""
    adapted = jax.eval_shape(
        lambda params: add_adapters(params, ("cross-attention",), 4, jax.random.key(0)),
        shapes("sd35-medium"),
    )
    found = select(adapted, ("*/lora_?",))
    assert len(found.params) == 2 * 95
    assert found.size == 95 * 4 * (1536 + 1536)
