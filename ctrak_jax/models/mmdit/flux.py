"""The denoiser of FLUX.1 for ONE sample: a transformer of image and text.

Blocks of two streams are followed by blocks in which text and image are one sequence. It predicts
the velocity of a rectified flow and is told the noise level in [0, 1]; FLUX.1-dev, which was
distilled from guided predictions, is also told the guidance scale. Published parameters: the names
of ``FluxTransformer2DModel``.

Sources: Black Forest Labs 2024 (FLUX.1), Esser et al. 2024 (joint attention), Su et al. 2021
(rotary embeddings), Meng et al. 2023 (distilled guidance).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Float

from ctrak_jax.errors import UsageError
from ctrak_jax.models.attention import attend
from ctrak_jax.models.checkpoints import DIFFUSERS
from ctrak_jax.models.denoiser import BLOCK, Compute
from ctrak_jax.models.dit import modulate
from ctrak_jax.models.lora.adapted import AdaptedNetwork
from ctrak_jax.models.mmdit.layers import (
    Condition,
    FeedForward,
    JointAttention,
    Modulation,
    QueryKeyValue,
    Streams,
    Tokens,
    Vector,
    normalised,
    projected,
    turned,
)
from ctrak_jax.models.mmdit.settings import positive, require_patches
from ctrak_jax.models.network import TextCondition
from ctrak_jax.models.sinusoids import BASE, NoiseLevel
from ctrak_jax.models.stable_diffusion import weights
from ctrak_jax.models.stable_diffusion.config_file import Component, refuse_others
from ctrak_jax.models.stable_diffusion.source import Part, part_in
from ctrak_jax.typing import Array, Params, PRNGKey

PATCH = 2
SIDE = 128
"""Rows and columns of the latent of an image of 1024 x 1024; config.json has no size."""
GUIDANCE = 3.5
"""What FLUX.1-dev is told unless another scale is given."""
AXES = (16, 56, 56)
"""Channels of a head that turn with a token's three places; published files leave them out."""
NEEDED = (
    *("num_layers", "num_single_layers", "num_attention_heads", "attention_head_dim"),
    *("in_channels", "joint_attention_dim", "pooled_projection_dim"),
)
SUPPORTED = "a FLUX.1 text-to-image model (dev or schnell)"


def packed(x: Float[Array, "h w c"]) -> Float[Array, "token feature"]:
    """Patches of 2 x 2 as tokens, row by row; in a token channels go first, then rows."""
    h, w, c = x.shape
    patches = x.reshape(h // PATCH, PATCH, w // PATCH, PATCH, c).transpose(0, 2, 4, 1, 3)
    return patches.reshape(h * w // PATCH**2, c * PATCH**2)


def unpacked(
    tokens: Float[Array, "token feature"], height: int, width: int
) -> Float[Array, "h w c"]:
    """The latent that :func:`packed` made these tokens of."""
    rows, columns = height // PATCH, width // PATCH
    patches = tokens.reshape(rows, columns, -1, PATCH, PATCH).transpose(0, 3, 1, 4, 2)
    return patches.reshape(height, width, -1)


def joint_angles(
    text: int, rows: int, columns: int, axes: tuple[int, ...]
) -> Float[np.ndarray, "token pair"]:
    """Rotation angle of every channel pair. A token of the image is at (0, row, column), one of the
    text, which goes first, at (0, 0, 0); an axis of d channels has frequencies 10000^(-2k / d)."""
    places = np.zeros((text + rows * columns, len(axes)))
    places[text:, 1] = np.repeat(np.arange(rows), columns)
    places[text:, 2] = np.tile(np.arange(columns), rows)
    frequencies = [BASE ** (-np.arange(0, d, 2) / d) for d in axes]
    return np.concatenate([places[:, [i]] * f for i, f in enumerate(frequencies)], axis=1)


class DoubleBlock(nn.Module):
    """A block of both streams."""

    heads: int
    dtype: Any
    efficient: bool

    @nn.compact
    def __call__(self, streams: Streams, condition: Vector, angles: np.ndarray) -> Streams:
        dtype, found = self.dtype, []
        parts = [Modulation(6, dtype, name=name)(condition) for name in ("norm1", "norm1_context")]
        modulated = (
            modulate(normalised(x), p[0], p[1]) for x, p in zip(streams, parts, strict=True)
        )
        attention = JointAttention(self.heads, True, dtype, self.efficient, name="attn")
        mixed = attention(Streams(*modulated), angles)
        names = ("ff", "ff_context")
        for x, y, part, name in zip(streams, mixed, parts, names, strict=True):
            _, _, gate, shift_mlp, scale_mlp, gate_mlp = part
            x = x + gate[None] * y
            h = modulate(normalised(x), shift_mlp, scale_mlp)
            x = x + gate_mlp[None] * FeedForward(dtype, name=name)(h)
            found.append(checkpoint_name(x, BLOCK))
        return Streams(*found)


class SequenceAttention(nn.Module):
    """Attention of a whole sequence, whose output no layer maps."""

    heads: int
    dtype: Any
    efficient: bool

    @nn.compact
    def __call__(self, x: Tokens, angles: np.ndarray) -> Array:
        names, norms = ("to_q", "to_k", "to_v"), ("norm_q", "norm_k")
        q, k, v = projected(x, self.heads, names, norms, self.dtype)
        found = QueryKeyValue(turned(q, angles), turned(k, angles), v)
        return attend(*found, efficient=self.efficient).reshape(x.shape)


class SingleBlock(nn.Module):
    """A block of text and image as one sequence, attention and feed-forward side by side."""

    heads: int
    dtype: Any
    efficient: bool

    @nn.compact
    def __call__(self, x: Tokens, condition: Vector, angles: np.ndarray) -> Array:
        width, dtype = x.shape[-1], self.dtype
        shift, scale, gate = Modulation(3, dtype, name="norm")(condition)
        h = modulate(normalised(x), shift, scale)
        hidden = nn.Dense(4 * width, dtype=dtype, name="proj_mlp")(h)
        mixed = SequenceAttention(self.heads, dtype, self.efficient, name="attn")(h, angles)
        both = jnp.concatenate([mixed, nn.gelu(hidden, approximate=True)], axis=-1)
        x = x + gate[None] * nn.Dense(width, dtype=dtype, name="proj_out")(both)
        return checkpoint_name(x, BLOCK)


class FluxTransformer(nn.Module):
    """The network; ``axes`` are the channels of a head that turn with each of a token's places."""

    width: int
    depth: int
    single_depth: int
    heads: int
    axes: tuple[int, ...]
    dtype: Any
    efficient: bool

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "h w c"],
        level: NoiseLevel,
        cond: TextCondition,
        guidance: float | None,
    ) -> Float[Array, "h w c"]:
        (height, width, channels), dtype = x.shape, self.dtype
        image = nn.Dense(self.width, dtype=dtype, name="x_embedder")(packed(x))
        text = nn.Dense(self.width, dtype=dtype, name="context_embedder")(cond.embeddings)
        embedded = Condition(self.width, dtype, name="time_text_embed")
        condition = embedded(level, cond.pooled, guidance)
        angles = joint_angles(len(text), height // PATCH, width // PATCH, self.axes)

        streams, how = Streams(image, text), (self.heads, dtype, self.efficient)
        for i in range(self.depth):
            block = DoubleBlock(*how, name=f"transformer_blocks_{i}")
            streams = block(streams, condition, angles)
        tokens = jnp.concatenate([streams.text, streams.image])
        for i in range(self.single_depth):
            block = SingleBlock(*how, name=f"single_transformer_blocks_{i}")
            tokens = block(tokens, condition, angles)

        scale, shift = Modulation(2, dtype, name="norm_out")(condition)
        image = modulate(normalised(tokens[len(text) :]), shift, scale)
        out = nn.Dense(channels * PATCH**2, dtype=dtype, name="proj_out")(image)
        return unpacked(out, height, width)


@dataclass(frozen=True)
class FluxDenoiser(AdaptedNetwork):
    """A :class:`ctrak_jax.models.network.DenoiserModule` over :class:`FluxTransformer`. It is
    told the noise level in [0, 1], its condition is a :class:`TextCondition`.

    Attributes:
        text_width: of the text's embeddings.
        pooled_width: of the pooled text.
        guidance: the scale that it is told; None: it takes none.
    """

    module: FluxTransformer
    text_width: int
    pooled_width: int
    guidance: float | None

    def apply(
        self,
        variables: Mapping[str, Params],
        x: Float[Array, "h w c"],
        level: NoiseLevel,
        cond: TextCondition,
        /,
    ) -> Float[Array, "h w c"]:
        height, width, _ = x.shape
        require_patches(height, width, PATCH)
        return self.predict(variables, x, level, cond, self.guidance)

    def init(self, key: PRNGKey) -> Params:
        """Fresh parameters; under ``jax.eval_shape`` their shapes."""
        x = jnp.zeros((PATCH, PATCH, self.latent_shape[-1]))
        cond = TextCondition(jnp.zeros((1, self.text_width)), jnp.zeros(self.pooled_width))
        return self.fresh(key, x, 0.0, cond, self.guidance)


def flux_of(
    config: Mapping[str, Any],
    file: Path,
    compute: Compute,
    *,
    side: int = SIDE,
    guidance: float = GUIDANCE,
) -> FluxDenoiser:
    """The network that a ``transformer/config.json`` describes; errors name ``file``.

    Args:
        config: its settings.
        file: where they are from.
        compute: how it computes.
        side: rows and columns of the latents.
        guidance: the scale that it is told, where it takes one.
    """
    config = {key: value for key, value in config.items() if value is not None}
    found = positive(file, config, NEEDED, SUPPORTED)
    features = found["in_channels"]
    only = {"out_channels": features, "patch_size": 1}
    refuse_others(file, config, only, SUPPORTED)
    axes = tuple(config.get("axes_dims_rope", AXES))
    even = len(axes) == 3 and all(type(d) is int and d > 0 and d % 2 == 0 for d in axes)
    if not even or sum(axes) != found["attention_head_dim"]:
        raise UsageError(
            f"{file}: axes_dims_rope is {list(axes)}, expected three even numbers that add up to "
            f"attention_head_dim, {found['attention_head_dim']}; use {SUPPORTED}."
        )
    if features % PATCH**2:
        raise UsageError(
            f"{file}: in_channels is {features}, expected a multiple of {PATCH**2}; use "
            f"{SUPPORTED}."
        )
    module = FluxTransformer(
        width=found["num_attention_heads"] * found["attention_head_dim"],
        depth=found["num_layers"],
        single_depth=found["num_single_layers"],
        heads=found["num_attention_heads"],
        axes=axes,
        dtype=jnp.dtype(compute.dtype),
        efficient=compute.efficient_attention,
    )
    return FluxDenoiser(
        module=module,
        latent_shape=(side, side, features // PATCH**2),
        text_width=found["joint_attention_dim"],
        pooled_width=found["pooled_projection_dim"],
        guidance=guidance if config.get("guidance_embeds", False) else None,
    )


def flux_from(
    part: Part, compute: Compute, *, side: int = SIDE, guidance: float = GUIDANCE
) -> Component[FluxDenoiser]:
    """The network with its parameters; arguments as :func:`flux_of` has them."""
    network = flux_of(part.config, part.file, compute, side=side, guidance=guidance)
    return weights.load(part.weights(), network, keep=compute.keeps_half)


def load_flux(
    folder: Path, compute: Compute, *, side: int = SIDE, guidance: float = GUIDANCE
) -> Component[FluxDenoiser]:
    """The denoiser in ``folder`` (config.json and weights); arguments as :func:`flux_of` has."""
    return flux_from(part_in(folder, DIFFUSERS), compute, side=side, guidance=guidance)
