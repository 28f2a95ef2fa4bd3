"""DiT-XL/2 and its like for ONE sample: a transformer of latents, conditioned on a class.

It predicts the noise; the variance that it also learned is left out. Published parameters: the
names of ``DiTTransformer2DModel``, in which every block has a copy of the embeddings of timestep
and class; the first block's are also those of the output.

Source: Peebles & Xie 2023.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Float, Int

from ctrak_jax.errors import UsageError
from ctrak_jax.models.checkpoints import DIFFUSERS
from ctrak_jax.models.denoiser import BLOCK, Compute
from ctrak_jax.models.dit import modulate
from ctrak_jax.models.lora.adapted import AdaptedNetwork
from ctrak_jax.models.mmdit.layers import (
    Embedding,
    FeedForward,
    PatchEmbedding,
    SelfAttention,
    Tokens,
    normalised,
)
from ctrak_jax.models.mmdit.settings import positive, require_patches
from ctrak_jax.models.sinusoids import HALF, NoiseLevel, level_waves, place_table
from ctrak_jax.models.stable_diffusion import weights
from ctrak_jax.models.stable_diffusion.config_file import Component, refuse_others
from ctrak_jax.models.stable_diffusion.source import Part, part_in
from ctrak_jax.typing import Array, Params, PRNGKey

NEEDED = (
    *("num_layers", "num_attention_heads", "attention_head_dim", "patch_size", "sample_size"),
    *("in_channels", "num_embeds_ada_norm"),
)
ONLY = {
    "norm_type": "ada_norm_zero",
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "norm_elementwise_affine": False,
}
SUPPORTED = "a class-conditional DiT"
AFTER_ATTENTION = 1e-5
"""``norm_eps``: diffusers' epsilon of the norm before the feed-forward, where config.json has none;
the other norms have 1e-6."""

ClassNumber = Int[Array, ""] | int


class ClassTable(nn.Module):
    """A vector for every class, and one for none."""

    classes: int
    width: int
    dtype: Any

    @nn.compact
    def __call__(self, number: ClassNumber) -> Array:
        table = nn.Embed(self.classes + 1, self.width, dtype=self.dtype, name="embedding_table")
        return table(jnp.asarray(number))


class TimeAndClass(nn.Module):
    """The timestep and the class as one vector."""

    classes: int
    width: int
    dtype: Any

    @nn.compact
    def __call__(self, t: NoiseLevel, number: ClassNumber) -> Array:
        waves = level_waves(t, span=HALF - 1)
        found = Embedding(self.width, self.dtype, name="timestep_embedder")(waves)
        how = (self.classes, self.width, self.dtype)
        return found + ClassTable(*how, name="class_embedder")(number)


class ClassModulation(nn.Module):
    """Six vectors from a block's own embeddings, and the embeddings' sum."""

    classes: int
    dtype: Any
    width: int

    @nn.compact
    def __call__(self, t: NoiseLevel, number: ClassNumber) -> tuple[Array, tuple[Array, ...]]:
        embedded = TimeAndClass(self.classes, self.width, self.dtype, name="emb")(t, number)
        linear = nn.Dense(6 * self.width, dtype=self.dtype, name="linear")
        return embedded, tuple(jnp.split(linear(nn.silu(embedded)), 6))


class BlockOutput(NamedTuple):
    """What a block gives on.

    Attributes:
        tokens: [token, width].
        embedded: [width], its embeddings of timestep and class.
    """

    tokens: Array
    embedded: Array


class LatentDiTBlock(nn.Module):
    """Attention and feed-forward, each scaled, shifted and gated by timestep and class."""

    heads: int
    classes: int
    epsilon: float
    dtype: Any
    efficient: bool

    @nn.compact
    def __call__(self, x: Tokens, t: NoiseLevel, number: ClassNumber) -> BlockOutput:
        dtype, width = self.dtype, x.shape[-1]
        modulation = ClassModulation(self.classes, dtype, width, name="norm1")
        embedded, (shift, scale, gate, shift_mlp, scale_mlp, gate_mlp) = modulation(t, number)
        attention = SelfAttention(self.heads, False, dtype, self.efficient, name="attn1")
        x = x + gate[None] * attention(modulate(normalised(x), shift, scale))
        h = modulate(normalised(x, self.epsilon), shift_mlp, scale_mlp)
        x = x + gate_mlp[None] * FeedForward(dtype, name="ff")(h)
        return BlockOutput(checkpoint_name(x, BLOCK), embedded)


class LatentDiT(nn.Module):
    """The network; of its ``outputs`` per pixel the first are the noise."""

    width: int
    depth: int
    heads: int
    patch: int
    outputs: int
    classes: int
    epsilon: float
    dtype: Any
    efficient: bool

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "h w c"],
        t: NoiseLevel,
        number: ClassNumber,
        places: Float[Array, "row column width"],
    ) -> Float[Array, "h w c"]:
        dtype, width, p = self.dtype, self.width, self.patch
        patches = PatchEmbedding(width, p, dtype, name="pos_embed")(x)
        rows, columns, _ = patches.shape
        tokens = (patches + jnp.asarray(places, dtype)).reshape(rows * columns, width)
        conditions = []
        for i in range(self.depth):
            how = (self.heads, self.classes, self.epsilon, dtype, self.efficient)
            block = LatentDiTBlock(*how, name=f"transformer_blocks_{i}")
            tokens, embedded = block(tokens, t, number)
            conditions.append(embedded)

        modulation = nn.Dense(2 * width, dtype=dtype, name="proj_out_1")
        shift, scale = jnp.split(modulation(nn.silu(conditions[0])), 2)
        out = nn.Dense(p * p * self.outputs, dtype=dtype, name="proj_out_2")(
            modulate(normalised(tokens), shift, scale)
        )
        out = out.reshape(rows, columns, p, p, self.outputs).transpose(0, 2, 1, 3, 4)
        return out.reshape(rows * p, columns * p, self.outputs)[..., : x.shape[-1]]


@dataclass(frozen=True)
class LatentDiTDenoiser(AdaptedNetwork):
    """A :class:`ctrak_jax.models.network.DenoiserModule` over :class:`LatentDiT`. Its condition is
    the number of a class; ``classes`` is the number of none.

    Attributes:
        classes: how many it knows.
    """

    module: LatentDiT
    classes: int

    def apply(
        self,
        variables: Mapping[str, Params],
        x: Float[Array, "h w c"],
        t: NoiseLevel,
        cond: ClassNumber,
        /,
    ) -> Float[Array, "h w c"]:
        return self.predict(variables, x, t, cond, jnp.asarray(self.places(*x.shape[:2])))

    def places(self, height: int, width: int) -> Float[np.ndarray, "row column width"]:
        """The table of places of a latent: 0, 1, ... at the size of training, and as far apart as
        others need to cover the same."""
        patch, (side, _, _) = self.module.patch, self.latent_shape
        require_patches(height, width, patch)
        base, counts = side // patch, (height // patch, width // patch)
        rows, columns = (np.arange(count) * (base / count) for count in counts)
        return place_table(rows, columns, self.module.width)

    def init(self, key: PRNGKey) -> Params:
        """Fresh parameters; under ``jax.eval_shape`` their shapes."""
        side, channels = self.module.patch, self.latent_shape[-1]
        x, places = jnp.zeros((side, side, channels)), jnp.asarray(self.places(side, side))
        return self.fresh(key, x, 0, 0, places)


def latent_dit_of(config: Mapping[str, Any], file: Path, compute: Compute) -> LatentDiTDenoiser:
    """The network that a ``transformer/config.json`` describes; errors name ``file``."""
    found = positive(file, config, NEEDED, SUPPORTED)
    refuse_others(file, config, ONLY, SUPPORTED)
    channels, heads = found["in_channels"], found["num_attention_heads"]
    outputs = config.get("out_channels") or channels
    if outputs not in (channels, 2 * channels):
        raise UsageError(
            f"{file}: out_channels is {outputs}, expected {channels}, or {2 * channels} with "
            f"the learned variance; use {SUPPORTED}."
        )
    width = heads * found["attention_head_dim"]
    if width % 4:
        raise UsageError(
            f"{file}: tokens are {width} wide, expected a multiple of 4; use {SUPPORTED}."
        )
    module = LatentDiT(
        width=width,
        depth=found["num_layers"],
        heads=heads,
        patch=found["patch_size"],
        outputs=outputs,
        classes=found["num_embeds_ada_norm"],
        epsilon=float(config.get("norm_eps", AFTER_ATTENTION)),
        dtype=jnp.dtype(compute.dtype),
        efficient=compute.efficient_attention,
    )
    size = found["sample_size"]
    return LatentDiTDenoiser(module, (size, size, channels), module.classes)


def latent_dit_from(part: Part, compute: Compute) -> Component[LatentDiTDenoiser]:
    """The network with its parameters."""
    network = latent_dit_of(part.config, part.file, compute)
    return weights.load(part.weights(), network, keep=compute.keeps_half)


def load_latent_dit(folder: Path, compute: Compute) -> Component[LatentDiTDenoiser]:
    """The denoiser in ``folder`` (config.json and weights)."""
    return latent_dit_from(part_in(folder, DIFFUSERS), compute)
