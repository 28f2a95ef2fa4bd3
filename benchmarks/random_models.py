"""Random models of PyTorch's classes at several sizes, for benchmarks.published_networks."""

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import torch
import transformers

from ctrak_jax.models.denoiser import FLOAT32
from ctrak_jax.models.latent_dit import load_latent_dit
from ctrak_jax.models.mmdit import load_flux, load_sd3
from ctrak_jax.models.network import SizedTextCondition, TextCondition
from ctrak_jax.models.stable_diffusion import load_autoencoder, load_unet
from ctrak_jax.models.text_encoders import load_clip_text, load_t5

DOUBLE = torch.float64
TOLD = 3.5
"""FLUX.1-dev's own guidance scale."""


def exact_waves(
    t: torch.Tensor, width: int, flip_sin_to_cos: bool = False, downscale_freq_shift: float = 1,
    scale: float = 1,
) -> torch.Tensor:  # fmt: skip
    """Diffusers' sinusoids, which it rounds to float32 in a network of float64 too."""
    powers = -torch.arange(width // 2, dtype=DOUBLE) / (width // 2 - downscale_freq_shift)
    angles = scale * t.double()[:, None] * 10_000.0**powers
    waves = [torch.cos(angles), torch.sin(angles)]
    return torch.cat(waves if flip_sin_to_cos else waves[::-1], dim=-1)


def use_exact_waves() -> None:
    """Have diffusers compute its sinusoids in float64."""
    diffusers.models.embeddings.get_timestep_embedding = exact_waves


def in_float32(load: Callable[..., Any]) -> Callable[..., Any]:
    return lambda folder: load(folder, FLOAT32)


class Model(NamedTuple):
    """A denoiser.

    Attributes:
        cls: PyTorch's class.
        call: PyTorch's network, state, timestep or level and condition -> its output.
        load: ours, of its folder.
        latent: channels, height, width.
        config: the class's settings.
        prediction: what it predicts.
    """

    cls: Any
    call: Callable[..., torch.Tensor]
    load: Callable[..., Any]
    latent: tuple[int, int, int]
    config: dict[str, Any]
    prediction: str = "eps"


def of_unet(network: Any, x: torch.Tensor, t: float, cond: Any) -> torch.Tensor:
    if not isinstance(cond, SizedTextCondition):
        return network(x[None], t, cond[None]).sample[0]
    added = {"text_embeds": cond.pooled[None], "time_ids": cond.sizes[None]}
    return network(x[None], t, cond.embeddings[None], added_cond_kwargs=added).sample[0]


def of_sd3(network: Any, x: torch.Tensor, level: float, cond: TextCondition) -> torch.Tensor:
    told = torch.tensor([1000.0 * level], dtype=DOUBLE)
    return network(x[None], cond.embeddings[None], cond.pooled[None], told).sample[0]


def of_flux(network: Any, x: torch.Tensor, level: float, cond: TextCondition) -> torch.Tensor:
    pipeline, (c, h, w) = diffusers.FluxPipeline, x.shape
    guides = network.config.guidance_embeds
    packed = network(
        hidden_states=pipeline._pack_latents(x[None], 1, c, h, w),
        encoder_hidden_states=cond.embeddings[None],
        pooled_projections=cond.pooled[None],
        timestep=torch.tensor([level], dtype=DOUBLE),
        img_ids=pipeline._prepare_latent_image_ids(1, h // 2, w // 2, "cpu", DOUBLE),
        txt_ids=torch.zeros(len(cond.embeddings), 3, dtype=DOUBLE),
        guidance=torch.tensor([TOLD], dtype=DOUBLE) if guides else None,
    ).sample
    return pipeline._unpack_latents(packed, 8 * h, 8 * w, 8)[0]


def of_dit(network: Any, x: torch.Tensor, t: float, cond: torch.Tensor) -> torch.Tensor:
    return network(x[None], torch.tensor([t]), cond[None]).sample[0, : len(x)]


def unet(latent: tuple[int, int, int], prediction: str = "eps", **config: Any) -> Model:
    plain, levels = config.pop("plain"), len(config["block_out_channels"])
    down = ["DownBlock2D" if i == plain else "CrossAttnDownBlock2D" for i in range(levels)]
    config |= {
        "sample_size": 8,
        "in_channels": latent[0],
        "out_channels": latent[0],
        "down_block_types": down,
        "up_block_types": [block.replace("Down", "Up") for block in reversed(down)],
    }
    cls = diffusers.UNet2DConditionModel
    return Model(cls, of_unet, in_float32(load_unet), latent, config, prediction)


def sd3(latent: tuple[int, int, int], heads: int, width: int, **config: Any) -> Model:
    config |= {
        "in_channels": latent[0],
        "out_channels": latent[0],
        "num_attention_heads": heads,
        "attention_head_dim": width,
        "caption_projection_dim": heads * width,
    }
    cls = diffusers.SD3Transformer2DModel
    return Model(cls, of_sd3, in_float32(load_sd3), latent, config, "flow")


def flux(latent: tuple[int, int, int], heads: int, axes: list[int], **config: Any) -> Model:
    config |= {
        "in_channels": 4 * latent[0],
        "num_attention_heads": heads,
        "attention_head_dim": sum(axes),
        "axes_dims_rope": axes,
        "joint_attention_dim": 10,
        "pooled_projection_dim": 6,
    }
    cls = diffusers.FluxTransformer2DModel
    return Model(cls, of_flux, in_float32(load_flux), latent, config, "flow")


def dit(latent: tuple[int, int, int], **config: Any) -> Model:
    config |= {"in_channels": latent[0], "out_channels": 2 * latent[0]}
    return Model(
        diffusers.DiTTransformer2DModel, of_dit, in_float32(load_latent_dit), latent, config
    )


DENOISERS = {
    "SD 1: 2 levels, latents 7 x 9": unet(
        (4, 7, 9), block_out_channels=[16, 24], plain=1, layers_per_block=1, norm_num_groups=8,
        attention_head_dim=4, cross_attention_dim=12,
    ),
    "SD 2: 3 levels, velocity": unet(
        (4, 8, 16), "v", block_out_channels=[8, 12, 16], plain=2, layers_per_block=1,
        norm_num_groups=4, attention_head_dim=[1, 2, 4], cross_attention_dim=10,
        use_linear_projection=True,
    ),
    "SD XL: layers 1, 1, 2": unet(
        (4, 8, 4), block_out_channels=[8, 16, 12], plain=0, layers_per_block=1,
        norm_num_groups=4, attention_head_dim=[1, 4, 3], transformer_layers_per_block=[1, 1, 2],
        cross_attention_dim=20, use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=6, projection_class_embeddings_input_dim=45,
    ),
    "SD 3: one block, patches of 1": sd3(
        (4, 6, 4), 2, 6, patch_size=1, num_layers=1, sample_size=8, pos_embed_max_size=9,
        joint_attention_dim=10, pooled_projection_dim=5,
    ),
    "SD 3.5: four blocks, dual in 3": sd3(
        (16, 12, 8), 3, 8, num_layers=4, sample_size=16, pos_embed_max_size=13,
        joint_attention_dim=14, pooled_projection_dim=9, qk_norm="rms_norm",
        dual_attention_layers=[0, 1, 3],
    ),
    "FLUX.1-dev: 2 and 3 blocks": flux(
        (4, 6, 10), 2, [2, 4, 6], num_layers=2, num_single_layers=3, guidance_embeds=True
    ),
    "FLUX.1-schnell: 1 and 1": flux((16, 8, 4), 3, [4, 2, 2], num_layers=1, num_single_layers=1),
    "DiT: patches of 4": dit(
        (3, 16, 16), sample_size=16, num_layers=3, num_attention_heads=2, attention_head_dim=6,
        patch_size=4, num_embeds_ada_norm=17,
    ),
}  # fmt: skip

CLIP = {
    "vocab_size": 99, "hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 3,
    "num_attention_heads": 2, "max_position_embeddings": 20, "projection_dim": 12,
    "bos_token_id": 97, "pad_token_id": 1,
}  # fmt: skip
T5 = {"vocab_size": 99, "d_model": 16, "d_kv": 6, "d_ff": 40, "num_layers": 3, "num_heads": 3}
T5 |= {"feed_forward_proj": "gated-gelu"}
ENCODERS = {
    "CLIP: quick GELU": (
        lambda: transformers.CLIPTextModel(transformers.CLIPTextConfig(**CLIP, eos_token_id=98)),
        load_clip_text,
        20,
    ),
    "CLIP: GELU, projection": (
        lambda: transformers.CLIPTextModelWithProjection(
            transformers.CLIPTextConfig(**CLIP, eos_token_id=2, hidden_act="gelu")
        ),
        load_clip_text,
        11,
    ),
    "T5: 300 tokens": (
        lambda: transformers.T5EncoderModel(transformers.T5Config(**T5)),
        load_t5,
        300,
    ),
}
"""Made by PyTorch's class, read by ours, tokens of a text."""
VAE = {"block_out_channels": [8, 16, 16], "norm_num_groups": 4}
VAE |= {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}
AUTOENCODERS = {
    "autoencoder: 4 channels": VAE,
    "autoencoder: 16 channels, shift": VAE
    | {
        "latent_channels": 16, "layers_per_block": 2, "use_quant_conv": False,
        "use_post_quant_conv": False, "scaling_factor": 0.3611, "shift_factor": 0.1159,
    },
}  # fmt: skip


def randomised(network: Any, seed: int) -> Any:
    """Weights at which every setting shows: each layer gives about as much as it takes."""
    random = torch.Generator().manual_seed(seed)
    for module in network.modules():
        table = isinstance(module, torch.nn.Embedding)
        for name, value in module.named_parameters(recurse=False):
            drawn = torch.randn(value.shape, generator=random)
            if value.ndim > 1:
                value.data = drawn if table else drawn / math.sqrt(value[0].numel())
            else:
                value.data = 0.3 * drawn + (name == "weight")
    return network.eval()


class Pair(NamedTuple):
    """The same network twice: PyTorch's in float64, ours with the parameters of its folder."""

    theirs: Any
    ours: Any


def pair(network: Any, seed: int, load: Callable[..., Any]) -> Pair:
    """A network with random weights, written and read."""
    randomised(network, seed)
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        found = load(Path(folder))
    return Pair(network.double(), (found.network, found.params))


def autoencoder(config: dict[str, Any], seed: int) -> Pair:
    """An autoencoder."""
    return pair(diffusers.AutoencoderKL(**config), seed, load_autoencoder)
