"""The denoiser of Stable Diffusion 1, 2 and XL for ONE sample, out of its files.

Settings that would change the network, and that it does not know, are refused here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from reprlib import repr as short
from typing import Any

import jax.numpy as jnp
from jaxtyping import Float

from ctrak_jax.errors import UsageError
from ctrak_jax.models.checkpoints import DIFFUSERS
from ctrak_jax.models.denoiser import Compute
from ctrak_jax.models.lora.adapted import AdaptedNetwork
from ctrak_jax.models.mmdit.settings import positive
from ctrak_jax.models.network import SizedTextCondition
from ctrak_jax.models.stable_diffusion import weights
from ctrak_jax.models.stable_diffusion.config_file import Component, refuse_others
from ctrak_jax.models.stable_diffusion.source import Part, part_in
from ctrak_jax.models.unet import LayerSettings, UNetLevel, UNetModule
from ctrak_jax.typing import Array, Params, PRNGKey, Timestep

MIDDLE = "UNetMidBlock2DCrossAttn"
DOWN = ("CrossAttnDownBlock2D", "DownBlock2D")
UP = ("CrossAttnUpBlock2D", "UpBlock2D")
"""Blocks with transformers, and without."""
SIZES = 6
"""Numbers that tell Stable Diffusion XL the image's size."""
DEFAULTS = {"in_channels": 4, "layers_per_block": 2, "norm_num_groups": 32}
ONLY = {
    "act_fn": "silu",
    "center_input_sample": False,
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "only_cross_attention": False,
    "resnet_time_scale_shift": "default",
    "resnet_skip_time_act": False,
    "resnet_out_scale_factor": 1.0,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "time_embedding_act_fn": None,
    "timestep_post_act": None,
    "time_cond_proj_dim": None,
    "class_embed_type": None,
    "num_class_embeds": None,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "cross_attention_norm": None,
    "attention_type": "default",
    "dual_cross_attention": False,
    "num_attention_heads": None,
    "reverse_transformer_layers_per_block": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
}
SUPPORTED = "a Stable Diffusion 1.x, 2.x or XL model"


@dataclass(frozen=True)
class UNet(AdaptedNetwork):
    """A :class:`ctrak_jax.models.network.DenoiserModule` over :class:`UNetModule`.

    Attributes:
        text_width: of the text's embeddings, its condition.
        pooled_width: of the pooled text, where its condition is a :class:`SizedTextCondition`.
    """

    module: UNetModule
    text_width: int
    pooled_width: int | None = None

    def apply(
        self,
        variables: Mapping[str, Params],
        x: Float[Array, "h w c"],
        t: Timestep,
        cond: Float[Array, "token width"] | SizedTextCondition,
        /,
    ) -> Float[Array, "h w c"]:
        return self.predict(variables, x, t, cond)

    def in_float32(self) -> "UNet":
        """The same network with everything computed in float32."""
        how = self.module.how._replace(dtype=jnp.dtype("float32"))
        return replace(self, module=self.module.clone(how=how))

    def init(self, key: PRNGKey) -> Params:
        """Fresh parameters; under ``jax.eval_shape`` their shapes."""
        side = 2 ** (len(self.module.down) - 1)
        x, cond = jnp.zeros((side, side, self.module.channels)), jnp.zeros((1, self.text_width))
        if self.pooled_width is not None:
            cond = SizedTextCondition(cond, jnp.zeros(self.pooled_width), jnp.zeros(SIZES))
        return self.fresh(key, x, 0, cond)


def unet_of(config: Mapping[str, Any], file: Path, compute: Compute) -> UNet:
    """The network that a ``unet/config.json`` describes; errors name ``file``."""
    refuse_others(file, config, ONLY, SUPPORTED)
    config = {**DEFAULTS, **config}
    names = (*DEFAULTS, "cross_attention_dim", "sample_size")
    found = positive(file, config, names, SUPPORTED)
    channels, out = found["in_channels"], config.get("out_channels", 4)
    if channels != out:
        raise UsageError(
            f"{file}: in_channels={channels} but out_channels={out}; inpainting and upscaling "
            "networks are not supported, use a text-to-image model."
        )
    groups = found["norm_num_groups"]
    levels = _levels(file, config, groups)
    middle = config.get("mid_block_type", MIDDLE)
    up = _blocks(file, config, "up_block_types", UP, len(levels))
    down = _blocks(file, config, "down_block_types", DOWN, len(levels))
    if middle not in (MIDDLE, None):
        raise UsageError(_unknown(file, middle, [MIDDLE]))
    module = UNetModule(
        down=tuple(map(_level, levels, down)),
        middle=levels[-1] if middle else None,
        up=tuple(map(_level, reversed(levels), up)),
        layers=found["layers_per_block"],
        channels=channels,
        size_waves=0,
        how=LayerSettings(
            groups=groups,
            epsilon=float(config.get("norm_eps", 1e-5)),
            linear=bool(config.get("use_linear_projection", False)),
            dtype=jnp.dtype(compute.dtype),
            efficient=compute.efficient_attention,
        ),
    )
    size = found["sample_size"]
    network = UNet(module, (size, size, channels), found["cross_attention_dim"])
    return _told_sizes(network, file, config)


def _told_sizes(network: UNet, file: Path, config: Mapping[str, Any]) -> UNet:
    """The network of Stable Diffusion XL, where the config is of one."""
    kind = config.get("addition_embed_type")
    if kind is None:
        return network
    if kind != "text_time":
        raise UsageError(
            f"{file}: addition_embed_type is {kind!r}, expected null or 'text_time'; use "
            f"{SUPPORTED}."
        )
    names = ("addition_time_embed_dim", "projection_class_embeddings_input_dim")
    waves, inputs = positive(file, config, names, SUPPORTED).values()
    pooled = inputs - SIZES * waves
    if pooled < 1:
        raise UsageError(
            f"{file}: {names[1]}={inputs} leaves no pooled text beside {SIZES} numbers of "
            f"{names[0]}={waves}; use {SUPPORTED}."
        )
    return replace(network, module=network.module.clone(size_waves=waves), pooled_width=pooled)


def _levels(file: Path, config: Mapping[str, Any], groups: int) -> list[UNetLevel]:
    widths = config.get("block_out_channels")
    if not isinstance(widths, list | tuple) or not widths:
        raise UsageError(f"{file} lacks block_out_channels; use a UNet's config.json.")
    odd = [width for width in widths if type(width) is not int or width <= 0 or width % groups]
    if odd:
        raise UsageError(
            f"{file}: block_out_channels has {short(odd[0])}, expected multiples of {groups}, the "
            "groups of the norms; use a whole model's config.json."
        )
    depths = _each(file, config, "transformer_layers_per_block", 1, len(widths))
    # Its number of heads, by a name that stuck.
    heads = _each(file, config, "attention_head_dim", 8, len(widths))
    for width, count in zip(widths, heads, strict=True):
        if width % count:
            raise UsageError(
                f"{file}: attention_head_dim has {count} heads, expected divisors of "
                f"block_out_channels, {width}; use a whole model's config.json."
            )
    return list(map(UNetLevel, widths, depths, heads))


def _each(file: Path, config: Mapping[str, Any], name: str, default: int, levels: int) -> list[int]:
    """A setting of every level: a number for all, or a list."""
    value = config.get(name, default)
    found = list(value) if isinstance(value, list | tuple) else [value] * levels
    if len(found) != levels or any(type(each) is not int or each < 1 for each in found):
        raise UsageError(
            f"{file}: {name} is {short(value)}, expected a whole number above 0, or one for each "
            f"of its {levels} levels; use {SUPPORTED}."
        )
    return found


def _blocks(
    file: Path, config: Mapping[str, Any], name: str, known: tuple[str, str], levels: int
) -> list[bool]:
    """Whether each level has transformers."""
    blocks = config.get(name) or ()
    unknown = [block for block in blocks if block not in known]
    if unknown:
        raise UsageError(_unknown(file, unknown[0], known))
    if len(blocks) != levels:
        raise UsageError(
            f"{file}: {name} has {len(blocks)} blocks, block_out_channels {levels}; use a whole "
            "model's config.json."
        )
    return [block == known[0] for block in blocks]


def _unknown(file: Path, block: Any, known: Any) -> str:
    return f"{file}: block {block!r} is not known; expected {', '.join(known)}."


def _level(level: UNetLevel, reads: bool) -> UNetLevel:
    return level if reads else level._replace(depth=0)


def unet_from(part: Part, compute: Compute) -> Component[UNet]:
    """A denoiser with its parameters."""
    network = unet_of(part.config, part.file, compute)
    return weights.load(part.weights(), network, keep=compute.keeps_half)


def load_unet(folder: Path, compute: Compute) -> Component[UNet]:
    """The denoiser in ``folder`` (config.json and weights)."""
    return unet_from(part_in(folder, DIFFUSERS), compute)
