r"""A diffusion transformer for ONE image (method.md, section 7).

Patches are tokens; a sine-cosine table (a constant) marks their places, and rotary embeddings turn
queries and keys by their row and column. Blocks are pre-norm (RMSNorm) attention with query-key
norm and a SwiGLU feed-forward, each scaled, shifted and gated by the condition (adaLN-zero).

Sources: Peebles & Xie 2023 (DiT, adaLN-zero), Su et al. 2021 (rotary embeddings), Henry et al. 2020
(query-key norm), Zhang & Sennrich 2019 (RMSNorm), Shazeer 2020 (SwiGLU), Yao et al. 2025 (this
combination).
"""

import math
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ctrak_jax.typing import Array, Image, Timestep

ZERO = nn.initializers.zeros_init()
XAVIER = nn.initializers.xavier_uniform()
LECUN = nn.initializers.lecun_normal()
# Attribute values start close to the origin, where the SiLU behind their sum is nearly linear: what
# two values do adds up, also for two that never came together (docs/results/benchmarks/shapes.md).
CONDITION = nn.initializers.normal(0.3)
CONDITIONING = ("time_embedding", "condition_embedding", "modulation")
"""Parts of the names of the parameters between the condition and the blocks."""
FREQUENCIES = 256
BASE = 10_000.0


class DiTSize(NamedTuple):
    """Channels of a token, blocks, attention heads, side of a patch."""

    width: int
    depth: int
    heads: int
    patch: int


SIZES = {
    "tiny": DiTSize(width=64, depth=4, heads=4, patch=4),
    "paper": DiTSize(width=512, depth=6, heads=8, patch=4),
}


def sincos_positions(rows: int, width: int) -> np.ndarray:
    """The constant table of positions [rows * rows, width]: the first half of the channels encode
    the column, the second the row, each as sines then cosines."""
    row, column = np.split(rotary_angles(rows, width), 2, axis=1)
    waves = [np.sin(column), np.cos(column), np.sin(row), np.cos(row)]
    return np.concatenate(waves, axis=1).astype(np.float32)


def rotary_angles(rows: int, channels: int) -> np.ndarray:
    """Rotation angle of every channel pair [rows * rows, channels / 2]: rows first, then columns,
    frequencies 10000^(-i / (channels / 4))."""
    frequencies = BASE ** (-np.arange(channels // 4) / (channels // 4))
    places = np.meshgrid(np.arange(rows), np.arange(rows), indexing="ij")
    return np.concatenate([place.reshape(-1, 1) * frequencies for place in places], axis=1)


def rotate(x: Float[Array, "token head dim"], angles: np.ndarray) -> Float[Array, "token head dim"]:
    """Rotate neighbouring channels (2i, 2i + 1) of every head by their token's angle."""
    # Neighbours swapped by a reversed axis of two: with even and odd channels sliced apart and
    # stacked again, a forward pass of the tiny network takes half as long again on a CPU.
    swapped = x.reshape(*x.shape[:-1], -1, 2)[..., ::-1].reshape(x.shape)
    sin = np.stack([-np.sin(angles), np.sin(angles)], axis=-1).reshape(len(angles), -1)
    cos = np.repeat(np.cos(angles), 2, axis=-1)
    return x * jnp.asarray(cos, x.dtype)[:, None] + swapped * jnp.asarray(sin, x.dtype)[:, None]


def timestep_features(t: Timestep) -> Float[Array, " features"]:
    """Cosines then sines of t at 128 frequencies between 1 and 1/10000."""
    half = FREQUENCIES // 2
    angle = t * jnp.asarray(BASE ** (-np.arange(half) / half))
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)])


def modulate(
    x: Float[Array, "token width"], shift: Float[Array, " width"], scale: Float[Array, " width"]
) -> Float[Array, "token width"]:
    """Scale by 1 + scale and shift, the same for every token (adaLN)."""
    return x * (1.0 + scale)[None] + shift[None]


def attend(
    q: Float[Array, "token head dim"],
    k: Float[Array, "token head dim"],
    v: Float[Array, "token head dim"],
) -> Float[Array, "token head dim"]:
    """softmax(q k^T) v of every head, q scaled before; the softmax in float32
    at least.

    The weights are divided by their sum after the product with v: [token, dim] numbers per head
    instead of [token, token]. 128 images of 64 tokens take 4 ms instead of 23 on a CPU.
    """
    wide = jnp.promote_types(q.dtype, jnp.float32)
    scores = jnp.einsum("qhd,khd->hqk", q, k, preferred_element_type=wide)
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
    mixed = jnp.einsum("hqk,khd->hqd", weights.astype(v.dtype), v)
    mixed = mixed / weights.sum(-1, keepdims=True)
    return mixed.swapaxes(0, 1).astype(v.dtype)


class Attention(nn.Module):
    """Multi-head self-attention with query-key norm and rotary embeddings."""

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "token width"], angles: np.ndarray) -> Array:
        tokens, width = x.shape
        head_dim = width // self.heads
        qkv = nn.Dense(3 * width, kernel_init=XAVIER, dtype=self.dtype, name="qkv")(x)
        q, k, v = jnp.moveaxis(qkv.reshape(tokens, 3, self.heads, head_dim), 1, 0)
        q = rotate(nn.RMSNorm(dtype=self.dtype, name="q_norm")(q), angles) / math.sqrt(head_dim)
        k = rotate(nn.RMSNorm(dtype=self.dtype, name="k_norm")(k), angles)
        mixed = attend(q, k, v).reshape(tokens, width)
        return nn.Dense(width, kernel_init=XAVIER, dtype=self.dtype, name="proj")(mixed)


class SwiGLU(nn.Module):
    """Gated feed-forward: W3 (silu(W1 x) * W2 x), W1 and W2 in one matrix."""

    hidden: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "token width"]) -> Array:
        dense = partial(nn.Dense, kernel_init=XAVIER, dtype=self.dtype)
        gate, value = jnp.split(dense(2 * self.hidden, name="w12")(x), 2, -1)
        return dense(x.shape[-1], name="w3")(nn.silu(gate) * value)


class DiTBlock(nn.Module):
    """One transformer block, modulated by the condition (adaLN-zero)."""

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "token width"], c: Float[Array, " width"], angles: np.ndarray
    ) -> Array:
        width, dtype = x.shape[-1], self.dtype
        modulate_by = nn.Dense(6 * width, kernel_init=ZERO, dtype=dtype, name="modulation")
        modulation = modulate_by(nn.silu(c))
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = jnp.split(modulation, 6)
        h = modulate(nn.RMSNorm(dtype=dtype, name="norm1")(x), shift_a, scale_a)
        x = x + gate_a[None] * Attention(self.heads, dtype, name="attn")(h, angles)
        h = modulate(nn.RMSNorm(dtype=dtype, name="norm2")(x), shift_m, scale_m)
        return x + gate_m[None] * SwiGLU(int(8 * width / 3), dtype, name="mlp")(h)


class DiT(nn.Module):
    """The network: ``apply({"params": params}, x, t, cond)`` for one image x [H, W, C].

    ``width`` is a multiple of 4 * heads; ``patch`` divides H = W. ``dtype`` is that of products and
    activations, and of the output; parameters, the norms' statistics and the attention's softmax
    are float32.
    """

    width: int
    depth: int
    heads: int
    patch: int
    dtype: Any = jnp.float32

    def in_float32(self) -> "DiT":
        """The same network with everything computed in float32."""
        return self.clone(dtype=jnp.float32)

    @nn.compact
    def __call__(self, x: Image, t: Timestep, cond: Float[Array, " condition"]) -> Image:
        side, _, channels = x.shape
        rows, p = side // self.patch, self.patch
        dense = partial(nn.Dense, dtype=self.dtype)
        patches = x.reshape(rows, p, rows, p, channels).transpose(0, 2, 1, 3, 4)
        tokens = dense(self.width, kernel_init=XAVIER, name="patch_embedding")(
            patches.reshape(rows * rows, p * p * channels)
        )
        tokens = tokens + jnp.asarray(sincos_positions(rows, self.width), self.dtype)

        c = dense(self.width, kernel_init=LECUN, name="time_embedding_0")(timestep_features(t))
        c = dense(self.width, kernel_init=LECUN, name="time_embedding_1")(nn.silu(c))
        if cond.size:  # a model without conditions has no such layer
            c = c + dense(self.width, kernel_init=CONDITION, name="condition_embedding")(cond)

        angles = rotary_angles(rows, self.width // self.heads)
        for i in range(self.depth):
            tokens = DiTBlock(self.heads, self.dtype, name=f"block_{i}")(tokens, c, angles)

        shift, scale = jnp.split(
            dense(2 * self.width, kernel_init=ZERO, name="final_modulation")(nn.silu(c)), 2
        )
        tokens = modulate(nn.RMSNorm(dtype=self.dtype, name="final_norm")(tokens), shift, scale)
        out = dense(p * p * channels, kernel_init=ZERO, name="final")(tokens)
        out = out.reshape(rows, rows, p, p, channels).transpose(0, 2, 1, 3, 4)
        return jax.lax.reshape(out, (side, side, channels))
