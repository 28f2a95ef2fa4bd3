"""The denoiser of Stable Diffusion 1, 2 and XL for ONE sample.

Levels of half the height and width each, the outputs of the way down beside those of the way up;
every level may have transformers that read the text. Published parameters: the names of
``UNet2DConditionModel``.

Sources: Ronneberger et al. 2015, Rombach et al. 2022, Podell et al. 2023 (XL: the pooled text and
the image's size beside the timestep).
"""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from ctrak_jax.models.network import SizedTextCondition
from ctrak_jax.models.sinusoids import Embedding, NoiseLevel, level_waves
from ctrak_jax.models.unet.layers import (
    Downsampler,
    Grid,
    Output,
    ResidualBlock,
    Upsampler,
    conv3,
    group_norm,
)
from ctrak_jax.models.unet.transformer import ImageTransformer, Text
from ctrak_jax.typing import Array

Vector = Float[Array, " width"]


class UNetLevel(NamedTuple):
    """The layers at one height and width.

    Attributes:
        width: channels.
        depth: layers of each transformer; 0: there are none.
        heads: of their attention.
    """

    width: int
    depth: int
    heads: int


class LayerSettings(NamedTuple):
    """What all layers have in common.

    Attributes:
        groups: of the norms.
        epsilon: of the norms outside the transformers.
        linear: the maps at the ends of a transformer are linear layers.
        dtype: of products and activations.
        efficient: attention keeps no weights of all queries at once.
    """

    groups: int
    epsilon: float
    linear: bool
    dtype: Any
    efficient: bool

    def residual(self, width: int, name: str) -> ResidualBlock:
        return ResidualBlock(width, self.groups, self.epsilon, self.dtype, name=name)

    def transformer(self, level: UNetLevel, name: str) -> ImageTransformer:
        how = (self.groups, self.linear, self.dtype, self.efficient)
        return ImageTransformer(level.depth, level.heads, *how, name=name)


class DownBlock(nn.Module):
    """A level on the way down: all its outputs, those at half the height and width last."""

    level: UNetLevel
    layers: int
    halves: bool
    how: LayerSettings

    @nn.compact
    def __call__(self, x: Grid, condition: Vector, text: Text) -> list[Output]:
        found = []
        for i in range(self.layers):
            x = self.how.residual(self.level.width, f"resnets_{i}")(x, condition)
            if self.level.depth:
                x = self.how.transformer(self.level, f"attentions_{i}")(x, text)
            found.append(x)
        if self.halves:
            found.append(Downsampler(1, self.how.dtype, name="downsamplers_0")(x))
        return found


class MiddleBlock(nn.Module):
    """A transformer between two blocks of convolutions."""

    level: UNetLevel
    how: LayerSettings

    @nn.compact
    def __call__(self, x: Grid, condition: Vector, text: Text) -> Output:
        x = self.how.residual(self.level.width, "resnets_0")(x, condition)
        x = self.how.transformer(self.level, "attentions_0")(x, text)
        return self.how.residual(self.level.width, "resnets_1")(x, condition)


class UpBlock(nn.Module):
    """A level on the way up, each of whose layers also reads an output of the way down. ``size`` is
    the height and width of the next level; None: there is none."""

    level: UNetLevel
    how: LayerSettings

    @nn.compact
    def __call__(
        self,
        x: Grid,
        beside: list[Output],
        condition: Vector,
        text: Text,
        size: tuple[int, int] | None,
    ) -> Output:
        for i, other in enumerate(beside):
            both = jnp.concatenate([x, other], axis=-1)
            x = self.how.residual(self.level.width, f"resnets_{i}")(both, condition)
            if self.level.depth:
                x = self.how.transformer(self.level, f"attentions_{i}")(x, text)
        return x if size is None else Upsampler(self.how.dtype, name="upsamplers_0")(x, size)


class UNetModule(nn.Module):
    """The network.

    Attributes:
        down: levels on the way down.
        middle: the last of them again, or None.
        up: levels on the way up.
        layers: blocks of convolutions in a level on the way down; one more on the way up.
        channels: of latents.
        size_waves: features of each number of the image's size; 0: it is not told the size.
        how: what all layers have in common.
    """

    down: tuple[UNetLevel, ...]
    middle: UNetLevel | None
    up: tuple[UNetLevel, ...]
    layers: int
    channels: int
    size_waves: int
    how: LayerSettings

    @nn.compact
    def __call__(self, x: Grid, t: NoiseLevel, cond: Text | SizedTextCondition) -> Grid:
        how, width = self.how, self.down[0].width
        condition = Embedding(4 * width, how.dtype, name="time_embedding")(
            level_waves(t, half=width // 2)
        )
        if isinstance(cond, SizedTextCondition):
            waves = partial(level_waves, half=self.size_waves // 2)
            sizes = jax.vmap(waves)(jnp.asarray(cond.sizes))
            added = jnp.concatenate([cond.pooled, sizes.ravel()])
            condition = condition + Embedding(4 * width, how.dtype, name="add_embedding")(added)
        text = cond.embeddings if isinstance(cond, SizedTextCondition) else cond

        x = conv3(width, how.dtype, "conv_in")(x)
        outputs = [x]
        for i, level in enumerate(self.down):
            block = DownBlock(
                level, self.layers, i < len(self.down) - 1, how, name=f"down_blocks_{i}"
            )
            outputs += block(outputs[-1], condition, text)
        x = outputs[-1]
        if self.middle is not None:
            x = MiddleBlock(self.middle, how, name="mid_block")(x, condition, text)
        for i, level in enumerate(self.up):
            beside = [outputs.pop() for _ in range(self.layers + 1)]
            size = (outputs[-1].shape[0], outputs[-1].shape[1]) if outputs else None
            x = UpBlock(level, how, name=f"up_blocks_{i}")(x, beside, condition, text, size)
        h = nn.silu(group_norm(x, how.groups, how.epsilon, "conv_norm_out"))
        return conv3(self.channels, how.dtype, "conv_out")(h)
