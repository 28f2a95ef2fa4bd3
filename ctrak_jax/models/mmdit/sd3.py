"""The denoiser of Stable Diffusion 3 and 3.5 for ONE sample: a transformer of image and text.

It predicts the velocity of a rectified flow and is told the noise level in [0, 1]. Published
parameters: the names of ``SD3Transformer2DModel``.

Source: Esser et al. 2024.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Float

from ctrak_jax.errors import UsageError
from ctrak_jax.models.checkpoints import DIFFUSERS
from ctrak_jax.models.denoiser import BLOCK, Compute
from ctrak_jax.models.dit import modulate
from ctrak_jax.models.lora.adapted import AdaptedNetwork
from ctrak_jax.models.mmdit.layers import (
    Condition,
    FeedForward,
    JointAttention,
    Modulation,
    PatchEmbedding,
    SelfAttention,
    Streams,
    Vector,
    normalised,
)
from ctrak_jax.models.mmdit.settings import positive, require_patches
from ctrak_jax.models.network import TextCondition
from ctrak_jax.models.sinusoids import NoiseLevel, place_table
from ctrak_jax.models.stable_diffusion import weights
from ctrak_jax.models.stable_diffusion.config_file import Component, refuse_others
from ctrak_jax.models.stable_diffusion.source import Part, part_in
from ctrak_jax.typing import Array, Params, PRNGKey

TABLE = "pos_embed.pos_embed"
"""The table of places, a constant that stands among the weights."""
NEEDED = (
    *("num_layers", "num_attention_heads", "attention_head_dim", "sample_size", "patch_size"),
    *("in_channels", "pos_embed_max_size", "joint_attention_dim", "pooled_projection_dim"),
)
SUPPORTED = "a Stable Diffusion 3 or 3.5 model"


class MMDiTBlock(nn.Module):
    """A block of both streams; ``dual`` blocks have a second attention of the image alone, the
    ``last`` one leaves the text as it is."""

    heads: int
    norms: bool
    dual: bool
    last: bool
    dtype: Any
    efficient: bool

    @nn.compact
    def __call__(self, streams: Streams, condition: Vector) -> Streams:
        (image, text), how = streams, (self.dtype, self.efficient)
        parts = Modulation(9 if self.dual else 6, self.dtype, name="norm1")(condition)
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = parts[:6]
        text_parts = Modulation(2 if self.last else 6, self.dtype, name="norm1_context")(condition)
        # The last block's two are in the other order: scale, then shift.
        text_shift, text_scale = text_parts[1::-1] if self.last else text_parts[:2]

        plain, attention = (
            normalised(image),
            JointAttention(self.heads, self.norms, *how, text_out=not self.last, name="attn"),
        )
        modulated = modulate(normalised(text), text_shift, text_scale)
        mixed = attention(Streams(modulate(plain, shift, scale), modulated))
        image = image + gate[None] * mixed.image
        if self.dual:
            shift, scale, gate = parts[6:]
            own = SelfAttention(self.heads, self.norms, *how, name="attn2")
            image = image + gate[None] * own(modulate(plain, shift, scale))
        h = modulate(normalised(image), shift_mlp, scale_mlp)
        image = image + gate_mlp[None] * FeedForward(self.dtype, name="ff")(h)
        if self.last:
            return Streams(checkpoint_name(image, BLOCK), text)

        gate, shift_mlp, scale_mlp, gate_mlp = text_parts[2:]
        text = text + gate[None] * mixed.text
        h = modulate(normalised(text), shift_mlp, scale_mlp)
        text = text + gate_mlp[None] * FeedForward(self.dtype, name="ff_context")(h)
        return Streams(checkpoint_name(image, BLOCK), checkpoint_name(text, BLOCK))


class MMDiT(nn.Module):
    """The network; ``dual`` numbers the blocks with a second attention of the image."""

    width: int
    depth: int
    heads: int
    patch: int
    channels: int
    norms: bool
    dual: tuple[int, ...]
    dtype: Any
    efficient: bool

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "h w c"],
        level: NoiseLevel,
        cond: TextCondition,
        places: Float[Array, "row column width"],
    ) -> Float[Array, "h w c"]:
        dtype, width = self.dtype, self.width
        patches = PatchEmbedding(width, self.patch, dtype, name="pos_embed")(x)
        rows, columns, _ = patches.shape
        image = (patches + jnp.asarray(places, dtype)).reshape(rows * columns, width)
        text = nn.Dense(width, dtype=dtype, name="context_embedder")(cond.embeddings)
        condition = Condition(width, dtype, name="time_text_embed")(level, cond.pooled)

        streams = Streams(image, text)
        for i in range(self.depth):
            how = (self.norms, i in self.dual, i == self.depth - 1, dtype, self.efficient)
            block = MMDiTBlock(self.heads, *how, name=f"transformer_blocks_{i}")
            streams = block(streams, condition)

        scale, shift = Modulation(2, dtype, name="norm_out")(condition)
        tokens = modulate(normalised(streams.image), shift, scale)
        p, c = self.patch, self.channels
        out = nn.Dense(p * p * c, dtype=dtype, name="proj_out")(tokens)
        out = out.reshape(rows, columns, p, p, c).transpose(0, 2, 1, 3, 4)
        return out.reshape(rows * p, columns * p, c)


@dataclass(frozen=True)
class SD3Denoiser(AdaptedNetwork):
    """A :class:`ctrak_jax.models.network.DenoiserModule` over :class:`MMDiT`. It is told the
    noise level in [0, 1], its condition is a :class:`TextCondition`.

    Attributes:
        text_width: of the text's embeddings.
        pooled_width: of the pooled text.
        most_places: rows and columns of its table of places.
        base: rows and columns of ``latent_shape``: between them lie steps of one.
        table: the file's table of places [1, most_places^2, width]; None: computed.
    """

    module: MMDiT
    text_width: int
    pooled_width: int
    most_places: int
    base: int
    table: np.ndarray | None = field(default=None, compare=False, repr=False)

    def apply(
        self,
        variables: Mapping[str, Params],
        x: Float[Array, "h w c"],
        level: NoiseLevel,
        cond: TextCondition,
        /,
    ) -> Float[Array, "h w c"]:
        return self.predict(variables, x, level, cond, jnp.asarray(self.places(*x.shape[:2])))

    def places(self, height: int, width: int) -> Float[np.ndarray, "row column width"]:
        """The middle of the table, for a latent of this height and width."""
        most, patch = self.most_places, self.module.patch
        require_patches(height, width, patch, most)
        top, left = (most - height // patch) // 2, (most - width // patch) // 2
        rows, columns = slice(top, top + height // patch), slice(left, left + width // patch)
        if self.table is not None:
            whole = self.table.reshape(most, most, self.module.width)
            return np.asarray(whole[rows, columns], np.float32)
        step = self.base / most
        every = np.arange(most) * step
        return place_table(every[rows], every[columns], self.module.width)

    def init(self, key: PRNGKey) -> Params:
        """Fresh parameters; under ``jax.eval_shape`` their shapes."""
        side = self.module.patch
        x = jnp.zeros((side, side, self.module.channels))
        cond = TextCondition(jnp.zeros((1, self.text_width)), jnp.zeros(self.pooled_width))
        return self.fresh(key, x, 0.0, cond, jnp.asarray(self.places(side, side)))


def sd3_of(config: Mapping[str, Any], file: Path, compute: Compute) -> SD3Denoiser:
    """The network that a ``transformer/config.json`` describes; errors name ``file``."""
    found = positive(file, config, NEEDED, SUPPORTED)
    heads, channels = found["num_attention_heads"], found["in_channels"]
    width = heads * found["attention_head_dim"]
    only = {"out_channels": channels, "caption_projection_dim": width}
    refuse_others(file, config, only, SUPPORTED)
    norms = config.get("qk_norm")
    if norms not in (None, "rms_norm"):
        raise UsageError(
            f"{file}: qk_norm is {norms!r}, expected null or 'rms_norm'; use {SUPPORTED}."
        )
    dual = tuple(config.get("dual_attention_layers") or ())
    if not set(dual) <= set(range(found["num_layers"])):
        raise UsageError(
            f"{file}: dual_attention_layers is {list(dual)}, expected numbers of its "
            f"{found['num_layers']} blocks; use a whole model's config.json."
        )
    module = MMDiT(
        width=width,
        depth=found["num_layers"],
        heads=heads,
        patch=found["patch_size"],
        channels=channels,
        norms=norms is not None,
        dual=dual,
        dtype=jnp.dtype(compute.dtype),
        efficient=compute.efficient_attention,
    )
    size = found["sample_size"]
    return SD3Denoiser(
        module=module,
        latent_shape=(size, size, channels),
        text_width=found["joint_attention_dim"],
        pooled_width=found["pooled_projection_dim"],
        most_places=found["pos_embed_max_size"],
        base=size // found["patch_size"],
    )


def sd3_from(part: Part, compute: Compute) -> Component[SD3Denoiser]:
    """The network with its parameters and the file's table of places."""
    network, opened = sd3_of(part.config, part.file, compute), part.weights()
    if opened.flax:  # trained here: the places are computed
        return weights.load(opened, network)
    tensors = dict(opened.tensors)
    table, shape = tensors.pop(TABLE, None), (1, network.most_places**2, network.module.width)
    if table is None or table.shape != shape:
        got = "missing" if table is None else table.shape
        raise UsageError(
            f"{opened.file}: tensor {TABLE} is {got}, config.json describes {shape}; use the "
            "config.json and the weights of one model."
        )
    network = replace(network, table=table)
    opened = opened._replace(tensors=tensors)
    return weights.load(opened, network, keep=compute.keeps_half)


def load_sd3(folder: Path, compute: Compute) -> Component[SD3Denoiser]:
    """The denoiser in ``folder`` (config.json and weights)."""
    return sd3_from(part_in(folder, DIFFUSERS), compute)
