"""The denoiser of Stable Diffusion 1.x and 2.x for ONE sample.

The Flax class computes GELU by its tanh form and normalises groups in the transformers with
epsilon 1e-5 (PyTorch's class: 1e-6): predictions differ from PyTorch's by some 1e-5. It passes over
settings that it does not know; those that would change the network are refused here.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Float

from ctrak_jax.errors import UsageError
from ctrak_jax.models.checkpoints import DIFFUSERS
from ctrak_jax.models.denoiser import BLOCK, Compute
from ctrak_jax.models.lora.layers import LayerAdapter, adapting, with_adapters
from ctrak_jax.models.stable_diffusion import huggingface, weights
from ctrak_jax.models.stable_diffusion.config_file import Component, refuse_others
from ctrak_jax.models.stable_diffusion.source import Part, part_in
from ctrak_jax.typing import Array, Params, PRNGKey, Timestep

MIDDLE = "UNetMidBlock2DCrossAttn"
BLOCKS = ("CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D", MIDDLE)
ONLY = {
    "act_fn": "silu",
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "center_input_sample": False,
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
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
MARKED = re.compile(r"(resnets|attentions|transformer_blocks|downsamplers|upsamplers)_\d+")
"""The modules of a UNet whose outputs are kept where memory is saved."""


@dataclass(frozen=True)
class UNet:
    """A :class:`ctrak_jax.models.network.DenoiserModule` over FlaxUNet2DConditionModel, with
    adapters on some layers, whose matrices stand beside the kernels in the parameters."""

    module: Any
    latent_shape: tuple[int, int, int]
    text_width: int
    adapters: tuple[LayerAdapter, ...] = ()

    def apply(
        self,
        variables: Mapping[str, Params],
        x: Float[Array, "h w c"],
        t: Timestep,
        cond: Float[Array, "token width"],
        /,
    ) -> Float[Array, "h w c"]:
        batch = jnp.transpose(x, (2, 0, 1))[None]
        with nn.intercept_methods(_mark_blocks), adapting(self.adapters):
            output = self.module.apply(variables, batch, jnp.asarray(t)[None], cond[None])
        return jnp.transpose(output.sample[0], (1, 2, 0))

    def in_float32(self) -> "UNet":
        """The same network with everything computed in float32."""
        return replace(self, module=self.module.clone(dtype=jnp.float32))

    def init(self, key: PRNGKey) -> Params:
        """Fresh parameters; under ``jax.eval_shape`` their shapes."""
        return with_adapters(self.module.init_weights(key), self.adapters, {})


def _mark_blocks(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
    output, path = call(*args, **kwargs), context.module.path
    marked = context.method_name == "__call__" and path and MARKED.fullmatch(path[-1])
    return checkpoint_name(output, BLOCK) if marked else output


def unet_of(config: Mapping[str, Any], file: Path, compute: Compute) -> UNet:
    """The network that a ``unet/config.json`` describes; errors name ``file``."""
    if config.get("addition_embed_type") is not None:
        raise UsageError(
            f"{file}: addition_embed_type is {config['addition_embed_type']!r}, a Stable Diffusion "
            "XL network, which is not supported; use a Stable Diffusion 1.x or 2.x model."
        )
    refuse_others(file, config, ONLY)
    missing = {"block_out_channels", "cross_attention_dim", "sample_size"} - config.keys()
    if missing:
        raise UsageError(f"{file} lacks {', '.join(sorted(missing))}; use a UNet's config.json.")
    middle = config.get("mid_block_type") or MIDDLE
    blocks = [*config.get("down_block_types", ()), middle, *config.get("up_block_types", ())]
    unknown = [block for block in blocks if block not in BLOCKS]
    if unknown:
        known = ", ".join(BLOCKS)
        raise UsageError(f"{file}: block {unknown[0]!r} is not known; expected {known}.")
    groups = ONLY["norm_num_groups"]
    odd = [width for width in config["block_out_channels"] if width % groups]
    if odd:
        raise UsageError(
            f"{file}: block_out_channels has {odd[0]}, expected multiples of {groups}, the groups "
            "of the norms; use a whole model's config.json."
        )
    channels, out = config.get("in_channels", 4), config.get("out_channels", 4)
    if channels != out:
        raise UsageError(
            f"{file}: in_channels={channels} but out_channels={out}; inpainting and upscaling "
            "networks are not supported, use a text-to-image model."
        )
    module = huggingface.unet(config, jnp.dtype(compute.dtype), compute.efficient_attention)
    size = config["sample_size"]
    return UNet(module, (size, size, channels), config["cross_attention_dim"])


def unet_from(part: Part, compute: Compute) -> Component[UNet]:
    """A denoiser with its parameters."""
    return weights.load(part.weights(), unet_of(part.config, part.file, compute))


def load_unet(folder: Path, compute: Compute) -> Component[UNet]:
    """The denoiser in ``folder`` (config.json and weights)."""
    return unet_from(part_in(folder, DIFFUSERS), compute)
