"""Layers that the denoiser and the autoencoder share: norms, convolutions with a residual, changes
of size.

Norms have their statistics, and by default their outputs, in float32 at least. Outputs that saved
memory keeps are named :data:`ctrak_jax.models.denoiser.BLOCK`.

Source: Rombach et al. 2022.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Float

from ctrak_jax.models.denoiser import BLOCK
from ctrak_jax.typing import Array

Grid = Float[Array, "h w c"]
Output = Float[Array, "_ _ _"]
"""[h, w, c], each of which may be another than the input's."""


def group_norm(x: Grid, groups: int, epsilon: float, name: str) -> Grid:
    """The norm over pixels and a group's channels of one sample."""
    norm = nn.GroupNorm(
        groups,
        epsilon=epsilon,
        dtype=jnp.promote_types(x.dtype, jnp.float32),
        reduction_axes=(-3, -2, -1),
        use_fast_variance=False,
        name=name,
    )
    return norm(x)


def conv3(width: int, dtype: Any, name: str) -> nn.Conv:
    """A convolution of 3 x 3 pixels."""
    return nn.Conv(width, (3, 3), padding=1, dtype=dtype, name=name)


class ResidualBlock(nn.Module):
    """Two convolutions, each after a norm and a SiLU, beside the input; a condition, where there is
    one, is added between them."""

    width: int
    groups: int
    epsilon: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Grid, condition: Float[Array, " width"] | None = None) -> Output:
        h = nn.silu(group_norm(x, self.groups, self.epsilon, "norm1"))
        h = conv3(self.width, self.dtype, "conv1")(h)
        if condition is not None:
            shift = nn.Dense(self.width, dtype=self.dtype, name="time_emb_proj")(nn.silu(condition))
            h = h + shift[None, None]
        h = nn.silu(group_norm(h, self.groups, self.epsilon, "norm2"))
        h = conv3(self.width, self.dtype, "conv2")(h)
        if x.shape[-1] != self.width:
            x = nn.Conv(self.width, (1, 1), dtype=self.dtype, name="conv_shortcut")(x)
        return checkpoint_name(x + h, BLOCK)


class Downsampler(nn.Module):
    """Half the height and width; ``before`` zeros stand before the first row and column, one after
    the last."""

    before: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Grid) -> Output:
        sides = ((self.before, 1), (self.before, 1))
        conv = nn.Conv(x.shape[-1], (3, 3), 2, sides, dtype=self.dtype, name="conv")
        return checkpoint_name(conv(x), BLOCK)


class Upsampler(nn.Module):
    """Twice the height and width: every pixel four times, cut to ``size`` (height and width;
    an odd one was halved with rounding up), then a convolution."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Grid, size: tuple[int, int] | None = None) -> Output:
        larger = jnp.repeat(jnp.repeat(x, 2, axis=0), 2, axis=1)
        if size is not None:
            larger = larger[: size[0], : size[1]]
        return checkpoint_name(conv3(x.shape[-1], self.dtype, "conv")(larger), BLOCK)
