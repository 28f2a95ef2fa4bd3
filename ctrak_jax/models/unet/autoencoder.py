"""The autoencoder of Stable Diffusion and FLUX.1 for ONE image, in float32.

Published parameters: the names of ``AutoencoderKL``; its attention has the older ones.

Source: Rombach et al. 2022.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from ctrak_jax.models.attention import attend
from ctrak_jax.models.unet.layers import (
    Downsampler,
    Grid,
    Output,
    ResidualBlock,
    Upsampler,
    conv3,
    group_norm,
)
from ctrak_jax.typing import Array

EPSILON = 1e-6
"""Of all norms."""


class PixelAttention(nn.Module):
    """Attention of one head among all pixels, beside the input."""

    groups: int

    @nn.compact
    def __call__(self, x: Grid) -> Grid:
        tokens = group_norm(x, self.groups, EPSILON, "group_norm").reshape(-1, x.shape[-1])
        q, k, v = (
            nn.Dense(x.shape[-1], name=name)(tokens)[:, None] for name in ("query", "key", "value")
        )
        mixed = attend(q, k, v, efficient=False)[:, 0]
        return x + nn.Dense(x.shape[-1], name="proj_attn")(mixed).reshape(x.shape)


class ResidualLevel(nn.Module):
    """Blocks of convolutions at one height and width, then, where ``change`` is there, another."""

    width: int
    layers: int
    groups: int
    change: str | None

    @nn.compact
    def __call__(self, x: Grid) -> Output:
        for i in range(self.layers):
            x = residual(self.width, self.groups, f"resnets_{i}")(x)
        if self.change == "half":
            x = Downsampler(0, jnp.float32, name="downsamplers_0")(x)
        if self.change == "twice":
            x = Upsampler(jnp.float32, name="upsamplers_0")(x)
        return x


class MiddleLevel(nn.Module):
    """Attention between two blocks of convolutions."""

    groups: int

    @nn.compact
    def __call__(self, x: Grid) -> Grid:
        x = residual(x.shape[-1], self.groups, "resnets_0")(x)
        x = PixelAttention(self.groups, name="attentions_0")(x)
        return residual(x.shape[-1], self.groups, "resnets_1")(x)


def residual(width: int, groups: int, name: str) -> ResidualBlock:
    """A block of convolutions."""
    return ResidualBlock(width, groups, EPSILON, jnp.float32, name=name)


def changes(kind: str, levels: int) -> Sequence[str | None]:
    """What follows each level: the last has no change of size."""
    return [*[kind] * (levels - 1), None]


class KLHalf(nn.Module):
    """Either half of an autoencoder.

    Attributes:
        widths: channels of its levels, from the image's to the latent's.
        layers: blocks of an encoder's level; a decoder's have one more.
        groups: of the norms.
        channels: of what it gives.
    """

    widths: tuple[int, ...]
    layers: int
    groups: int
    channels: int

    def last(self, x: Grid) -> Output:
        """The layers that both halves end with."""
        x = nn.silu(group_norm(x, self.groups, EPSILON, "conv_norm_out"))
        return conv3(self.channels, jnp.float32, "conv_out")(x)


class KLEncoder(KLHalf):
    """Image -> ``channels`` numbers for every pixel of a latent."""

    @nn.compact
    def __call__(self, x: Grid) -> Output:
        x = conv3(self.widths[0], jnp.float32, "conv_in")(x)
        each = zip(self.widths, changes("half", len(self.widths)), strict=True)
        for i, (width, change) in enumerate(each):
            how = (width, self.layers, self.groups, change)
            x = ResidualLevel(*how, name=f"down_blocks_{i}")(x)
        return self.last(MiddleLevel(self.groups, name="mid_block")(x))


class KLDecoder(KLHalf):
    """Latent -> image of ``channels`` colours."""

    @nn.compact
    def __call__(self, x: Grid) -> Output:
        x = conv3(self.widths[-1], jnp.float32, "conv_in")(x)
        x = MiddleLevel(self.groups, name="mid_block")(x)
        each = zip(reversed(self.widths), changes("twice", len(self.widths)), strict=True)
        for i, (width, change) in enumerate(each):
            how = (width, self.layers + 1, self.groups, change)
            x = ResidualLevel(*how, name=f"up_blocks_{i}")(x)
        return self.last(x)


class KLModule(nn.Module):
    """Encoder and decoder.

    Attributes:
        widths: channels by level.
        layers: blocks of convolutions in a level of the encoder; the decoder's have one more.
        groups: of the norms.
        colours: channels of images.
        channels: of latents.
        after_encoder: the encoder's output goes through a convolution of one pixel.
        before_decoder: so does the decoder's input.
    """

    widths: tuple[int, ...]
    layers: int
    groups: int
    colours: int
    channels: int
    after_encoder: bool
    before_decoder: bool

    def setup(self) -> None:
        how = (self.widths, self.layers, self.groups)
        self.encoder = KLEncoder(*how, 2 * self.channels)
        self.decoder = KLDecoder(*how, self.colours)
        if self.after_encoder:
            self.quant_conv = nn.Conv(2 * self.channels, (1, 1))
        if self.before_decoder:
            self.post_quant_conv = nn.Conv(self.channels, (1, 1))

    def encode(self, image: Float[Array, "H W rgb"]) -> Float[Array, "h w twice"]:
        """Means, then logarithms of the variance, of a latent."""
        found = self.encoder(image)
        return self.quant_conv(found) if self.after_encoder else found

    def decode(self, latent: Float[Array, "h w c"]) -> Float[Array, "H W rgb"]:
        """The image of a latent."""
        return self.decoder(self.post_quant_conv(latent) if self.before_decoder else latent)

    def __call__(self, image: Float[Array, "H W rgb"]) -> Float[Array, "H W rgb"]:
        return self.decode(self.encode(image)[..., : self.channels])
