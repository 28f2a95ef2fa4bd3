"""Transformers whose tokens are an image's pixels and which read a text.

The feed-forward gate is the GELU by the error function.

Sources: Vaswani et al. 2017, Rombach et al. 2022 (cross-attention), Shazeer 2020 (gated GELU).
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Float

from ctrak_jax.models.attention import attend
from ctrak_jax.models.denoiser import BLOCK
from ctrak_jax.models.unet.layers import Grid, group_norm
from ctrak_jax.typing import Array

Tokens = Float[Array, "token width"]
Text = Float[Array, "word feature"]


class CrossAttention(nn.Module):
    """Attention of the image's tokens to those of ``context``."""

    heads: int
    dtype: Any
    efficient: bool

    @nn.compact
    def __call__(self, x: Tokens, context: Text) -> Tokens:
        width = x.shape[-1]

        def projected(of: Array, name: str) -> Float[Array, "token head dim"]:
            layer = nn.Dense(width, use_bias=False, dtype=self.dtype, name=name)
            return layer(of).reshape(len(of), self.heads, -1)

        q, k, v = projected(x, "to_q"), projected(context, "to_k"), projected(context, "to_v")
        mixed = attend(q, k, v, efficient=self.efficient).reshape(x.shape)
        return nn.Dense(width, dtype=self.dtype, name="to_out_0")(mixed)


class GatedProjection(nn.Module):
    """A linear layer's one half, times the GELU of its other half."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Tokens) -> Float[Array, "token hidden"]:
        both = nn.Dense(2 * self.width, dtype=self.dtype, name="proj")(x)
        value, gate = jnp.split(both, 2, axis=-1)
        return value * nn.gelu(gate, approximate=False)


class GatedFeedForward(nn.Module):
    """Two linear layers, the first gated and four times as wide."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Tokens) -> Tokens:
        width = x.shape[-1]
        hidden = GatedProjection(4 * width, self.dtype, name="net_0")(x)
        return nn.Dense(width, dtype=self.dtype, name="net_2")(hidden)


class TransformerLayer(nn.Module):
    """Attention to the image, attention to the text and feed-forward, each after a norm."""

    heads: int
    dtype: Any
    efficient: bool

    @nn.compact
    def __call__(self, x: Tokens, text: Text) -> Tokens:
        how = (self.heads, self.dtype, self.efficient)

        def normalised(x: Tokens, name: str) -> Tokens:
            norm = nn.LayerNorm(1e-5, dtype=self.dtype, use_fast_variance=False, name=name)
            return norm(x)

        h = normalised(x, "norm1")
        x = x + CrossAttention(*how, name="attn1")(h, h)
        x = x + CrossAttention(*how, name="attn2")(normalised(x, "norm2"), text)
        x = x + GatedFeedForward(self.dtype, name="ff")(normalised(x, "norm3"))
        return checkpoint_name(x, BLOCK)


class ImageTransformer(nn.Module):
    """``depth`` layers between two maps of every pixel, beside the input. The maps are ``linear``
    layers (Stable Diffusion 2 and XL) or convolutions of one pixel (1)."""

    depth: int
    heads: int
    groups: int
    linear: bool
    dtype: Any
    efficient: bool

    @nn.compact
    def __call__(self, x: Grid, text: Text) -> Grid:
        height, width, channels = x.shape

        def mapped(x: Array, name: str) -> Array:
            if self.linear:
                return nn.Dense(channels, dtype=self.dtype, name=name)(x)
            return nn.Conv(channels, (1, 1), dtype=self.dtype, name=name)(x)

        h = mapped(group_norm(x, self.groups, 1e-6, "norm"), "proj_in")
        tokens = h.reshape(height * width, channels)
        for i in range(self.depth):
            how = (self.heads, self.dtype, self.efficient)
            tokens = TransformerLayer(*how, name=f"transformer_blocks_{i}")(tokens, text)
        h = mapped(tokens.reshape(x.shape), "proj_out")
        return checkpoint_name(x + h, BLOCK)
