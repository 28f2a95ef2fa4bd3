"""T5's encoder for ONE text, as Stable Diffusion 3 and FLUX.1 use it.

All tokens are attended to, padding too. Published parameters: the names of ``T5EncoderModel``.

Source: Raffel et al. 2020; Shazeer 2020 (gated feed-forward).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ctrak_jax.models.checkpoints import TRANSFORMERS, Opened, open_file, weights_in
from ctrak_jax.models.checkpoints.config_file import read_config
from ctrak_jax.models.mmdit.settings import positive
from ctrak_jax.models.stable_diffusion import weights
from ctrak_jax.models.stable_diffusion.config_file import Component, refuse_others
from ctrak_jax.typing import Array, Params, PRNGKey

NEEDED = (
    *("num_layers", "num_heads", "d_model", "d_kv", "d_ff", "vocab_size"),
    "relative_attention_num_buckets",
)
ONLY = {"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu_new", "model_type": "t5"}
SUPPORTED = "the T5 encoder of a Stable Diffusion 3 or FLUX.1 model"
FARTHEST = 128
"""``relative_attention_max_distance`` where config.json has none."""
SHARED, COPY = "shared.weight", "encoder.embed_tokens.weight"
"""One table of tokens, which some files have twice."""


def distance_buckets(tokens: int, buckets: int, farthest: int) -> Int[np.ndarray, "query key"]:
    """Which bias is added between two tokens: half of the buckets for keys after the query, half
    for the others; near distances have one each, those from there to ``farthest`` share the rest
    on a logarithmic scale."""
    distance = np.arange(tokens)[None] - np.arange(tokens)[:, None]
    half, near = buckets // 2, buckets // 4
    size = np.abs(distance)
    # In float32, as PyTorch's class: a boundary may fall to the other side.
    far = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(near))
    far = far / np.float32(math.log(farthest / near)) * np.float32(half - near)
    within = np.where(size < near, size, np.minimum(near + far.astype(int), half - 1))
    return np.where(distance > 0, half, 0) + within


class T5Attention(nn.Module):
    """Attention without a scale; the biases of distances [head, query, key] come from the first
    layer, which makes them of ``buckets``."""

    heads: int
    dim: int
    biases: int | None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "token width"],
        buckets: Int[np.ndarray, "token token"],
        bias: Float[Array, "head token token"] | None,
    ) -> tuple[Array, Array]:
        inner = self.heads * self.dim
        q, k, v = (
            nn.Dense(inner, use_bias=False, name=name)(x).reshape(len(x), self.heads, self.dim)
            for name in "qkv"
        )
        if self.biases is not None:
            table = nn.Embed(self.biases, self.heads, name="relative_attention_bias")
            bias = jnp.transpose(table(jnp.asarray(buckets)), (2, 0, 1)).astype(jnp.float32)
        assert bias is not None
        mixed = jax.nn.dot_product_attention(q, k, v, bias=bias[None], scale=1.0)
        out = nn.Dense(x.shape[-1], use_bias=False, name="o")
        return out(mixed.reshape(len(x), inner)), bias


class T5AttentionLayer(nn.Module):
    """Norm, attention, sum."""

    heads: int
    dim: int
    biases: int | None
    epsilon: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "token width"], buckets: np.ndarray, bias: Array | None
    ) -> tuple[Array, Array]:
        h = nn.RMSNorm(epsilon=self.epsilon, name="layer_norm")(x)
        attention = T5Attention(self.heads, self.dim, self.biases, name="SelfAttention")
        mixed, bias = attention(h, buckets, bias)
        return x + mixed, bias


class GatedGELU(nn.Module):
    """wo (gelu(wi_0 x) * wi_1 x), the GELU by its tanh form."""

    hidden: int

    @nn.compact
    def __call__(self, x: Float[Array, "token width"]) -> Array:
        gate, value = (
            nn.Dense(self.hidden, use_bias=False, name=name)(x) for name in ("wi_0", "wi_1")
        )
        out = nn.Dense(x.shape[-1], use_bias=False, name="wo")
        return out(nn.gelu(gate, approximate=True) * value)


class T5FeedForwardLayer(nn.Module):
    """Norm, feed-forward, sum."""

    hidden: int
    epsilon: float

    @nn.compact
    def __call__(self, x: Float[Array, "token width"]) -> Array:
        h = nn.RMSNorm(epsilon=self.epsilon, name="layer_norm")(x)
        return x + GatedGELU(self.hidden, name="DenseReluDense")(h)


class T5Block(nn.Module):
    """Attention and feed-forward."""

    heads: int
    dim: int
    hidden: int
    biases: int | None
    epsilon: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "token width"], buckets: np.ndarray, bias: Array | None
    ) -> tuple[Array, Array]:
        attention = T5AttentionLayer(
            self.heads, self.dim, self.biases, self.epsilon, name="layer_0"
        )
        x, bias = attention(x, buckets, bias)
        return T5FeedForwardLayer(self.hidden, self.epsilon, name="layer_1")(x), bias


class T5Stack(nn.Module):
    """All blocks and the last norm."""

    depth: int
    heads: int
    dim: int
    hidden: int
    buckets: int
    farthest: int
    epsilon: float

    @nn.compact
    def __call__(self, x: Float[Array, "token width"]) -> Array:
        buckets, bias = distance_buckets(len(x), self.buckets, self.farthest), None
        for i in range(self.depth):
            how = (self.heads, self.dim, self.hidden, self.buckets if i == 0 else None)
            x, bias = T5Block(*how, self.epsilon, name=f"block_{i}")(x, buckets, bias)
        return nn.RMSNorm(epsilon=self.epsilon, name="final_layer_norm")(x)


class T5Encoder(nn.Module):
    """Tokens to their last hidden states."""

    vocabulary: int
    width: int
    stack: Mapping[str, Any]

    @nn.compact
    def __call__(self, tokens: Int[Array, " token"]) -> Float[Array, "token width"]:
        x = nn.Embed(self.vocabulary, self.width, name="shared")(tokens).astype(jnp.float32)
        return T5Stack(**self.stack, name="encoder")(x)


@dataclass(frozen=True)
class T5Text:
    """T5's encoder of token numbers; texts may have any length. Its embedding is ``width`` wide."""

    module: T5Encoder
    width: int

    def apply(self, params: Params, tokens: Int[Array, " token"], /) -> Float[Array, "token width"]:
        """The last hidden states, of every token."""
        found = self.module.apply({"params": params}, jnp.asarray(tokens, jnp.int32))
        assert isinstance(found, jax.Array)
        return found

    def init(self, key: PRNGKey) -> Params:
        """Fresh parameters; under ``jax.eval_shape`` their shapes."""
        return self.module.init(key, jnp.zeros(1, jnp.int32))["params"]


def t5_of(config: Mapping[str, Any], file: Path) -> T5Text:
    """The network that a T5 encoder's ``config.json`` describes; errors name ``file``."""
    found = positive(file, config, NEEDED, SUPPORTED)
    refuse_others(file, config, ONLY, SUPPORTED)
    stack = {
        "depth": found["num_layers"],
        "heads": found["num_heads"],
        "dim": found["d_kv"],
        "hidden": found["d_ff"],
        "buckets": found["relative_attention_num_buckets"],
        "farthest": int(config.get("relative_attention_max_distance", FARTHEST)),
        "epsilon": float(config.get("layer_norm_epsilon", 1e-6)),
    }
    return T5Text(T5Encoder(found["vocab_size"], found["d_model"], stack), found["d_model"])


def load_t5(folder: Path) -> Component[T5Text]:
    """The encoder in ``folder`` (config.json and weights, also in several files); it computes in
    float32, whatever they are stored in."""
    file = folder / "config.json"
    network = t5_of(read_config(file), file)
    opened = _without_copy(open_file(weights_in(folder, TRANSFORMERS)))
    return weights.load(opened, network, keep=True)


def _without_copy(opened: Opened) -> Opened:
    tensors = dict(opened.tensors)
    copy = tensors.pop(COPY, None)
    if copy is not None:
        tensors.setdefault(SHARED, copy)
    return opened._replace(tensors=tensors)
