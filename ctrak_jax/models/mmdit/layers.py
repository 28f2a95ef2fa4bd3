"""Layers that the transformers of image and text share, for ONE sample.

Modules bear the names that diffusers gives them, numbers joined by an underscore, so that a
parameter's path is its published name: ``transformer_blocks.0.attn.to_out.0.weight`` is
``transformer_blocks_0/attn/to_out_0/kernel``.

Sources: Esser et al. 2024 (joint attention of two streams, query-key norm), Peebles & Xie 2023
(scales, shifts and gates from the condition).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ctrak_jax.models.attention import attend
from ctrak_jax.models.dit import rotate
from ctrak_jax.models.sinusoids import Embedding, NoiseLevel, level_waves
from ctrak_jax.typing import Array

Tokens = Float[Array, "token width"]
Vector = Float[Array, " width"]


class Streams(NamedTuple):
    """The tokens of the image and of the text.

    Attributes:
        image: [token, width].
        text: [token, width].
    """

    image: Array
    text: Array


class QueryKeyValue(NamedTuple):
    """What attention takes, each [token, head, dim]."""

    q: Array
    k: Array
    v: Array


def normalised(x: Tokens, epsilon: float = 1e-6) -> Tokens:
    """Layer norm without parameters, in float32 at least."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    centred = wide - wide.mean(-1, keepdims=True)
    variance = jnp.square(centred).mean(-1, keepdims=True)
    return (centred / jnp.sqrt(variance + epsilon)).astype(x.dtype)


def projected(
    x: Tokens, heads: int, names: Sequence[str], norms: Sequence[str], dtype: Any
) -> QueryKeyValue:
    """Queries, keys and values of tokens by linear layers of these names, queries and keys divided
    by their root mean square where ``norms`` names the two; for a compact method."""
    width = x.shape[-1]
    layers = [nn.Dense(width, dtype=dtype, name=name) for name in names]
    q, k, v = (layer(x).reshape(len(x), heads, width // heads) for layer in layers)
    if norms:
        q, k = (
            nn.RMSNorm(dtype=dtype, name=norm)(x) for norm, x in zip(norms, (q, k), strict=True)
        )
    return QueryKeyValue(q, k, v)


def turned(x: Float[Array, "token head dim"], angles: np.ndarray) -> Array:
    """Rotary embeddings, in float32 at least."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return rotate(wide, angles).astype(x.dtype)


class PatchEmbedding(nn.Module):
    """Square patches of a latent as tokens, one linear map for all."""

    width: int
    patch: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "h w c"]) -> Float[Array, "row column width"]:
        sides = (self.patch, self.patch)
        proj = nn.Conv(self.width, sides, sides, "VALID", dtype=self.dtype, name="proj")
        return proj(x)


class Modulation(nn.Module):
    """``parts`` vectors from the condition, for :func:`ctrak_jax.models.dit.modulate`."""

    parts: int
    dtype: Any

    @nn.compact
    def __call__(self, condition: Vector) -> tuple[Array, ...]:
        width = self.parts * len(condition)
        linear = nn.Dense(width, dtype=self.dtype, name="linear")
        return tuple(jnp.split(linear(nn.silu(condition)), self.parts))


class GELUProjection(nn.Module):
    """A linear layer and a GELU (tanh form)."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Tokens) -> Array:
        return nn.gelu(nn.Dense(self.width, dtype=self.dtype, name="proj")(x), approximate=True)


class FeedForward(nn.Module):
    """Two linear layers with a GELU (tanh form) between, four times as wide."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Tokens) -> Array:
        width = x.shape[-1]
        hidden = GELUProjection(4 * width, self.dtype, name="net_0")(x)
        return nn.Dense(width, dtype=self.dtype, name="net_2")(hidden)


class Condition(nn.Module):
    """The noise level in [0, 1], the pooled text and, where it is given, a guidance scale as one
    vector."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(
        self, level: NoiseLevel, pooled: Float[Array, " pooled"], guidance: float | None = None
    ) -> Array:
        waves = level_waves(level, factor=1000.0)
        found = Embedding(self.width, self.dtype, name="timestep_embedder")(waves)
        if guidance is not None:
            waves = level_waves(guidance, factor=1000.0)
            found = found + Embedding(self.width, self.dtype, name="guidance_embedder")(waves)
        return found + Embedding(self.width, self.dtype, name="text_embedder")(pooled)


class SelfAttention(nn.Module):
    """Attention of the image's tokens among themselves."""

    heads: int
    norms: bool
    dtype: Any
    efficient: bool

    @nn.compact
    def __call__(self, x: Tokens) -> Array:
        norms = ("norm_q", "norm_k") if self.norms else ()
        found = projected(x, self.heads, ("to_q", "to_k", "to_v"), norms, self.dtype)
        mixed = attend(*found, efficient=self.efficient).reshape(x.shape)
        return nn.Dense(x.shape[-1], dtype=self.dtype, name="to_out_0")(mixed)


class JointAttention(nn.Module):
    """Attention of image and text as one sequence, each with linear layers of its own.

    ``text_out`` is off in the last block of Stable Diffusion 3: the text attends to nothing there,
    and the layer of its queries, which the file has, reaches nothing.
    """

    heads: int
    norms: bool
    dtype: Any
    efficient: bool
    text_out: bool = True

    @nn.compact
    def __call__(self, streams: Streams, angles: np.ndarray | None = None) -> Streams:
        """``angles`` turn queries and keys, text first."""
        image, text = streams
        own, added = ("norm_q", "norm_k"), ("norm_added_q", "norm_added_k")
        names = (("to_q", "to_k", "to_v"), ("add_q_proj", "add_k_proj", "add_v_proj"))
        of_image = projected(image, self.heads, names[0], own if self.norms else (), self.dtype)
        of_text = projected(text, self.heads, names[1], added if self.norms else (), self.dtype)
        q, k, v = (jnp.concatenate(both) for both in zip(of_text, of_image, strict=True))
        if angles is not None:
            q, k = turned(q, angles), turned(k, angles)
        if not self.text_out:
            q = q[len(text) :]
        mixed = attend(q, k, v, efficient=self.efficient).reshape(len(q), -1)
        width = image.shape[-1]
        to_image = nn.Dense(width, dtype=self.dtype, name="to_out_0")
        if not self.text_out:
            return Streams(to_image(mixed), text)
        to_text = nn.Dense(width, dtype=self.dtype, name="to_add_out")
        return Streams(to_image(mixed[len(text) :]), to_text(mixed[: len(text)]))
