"""A small Stable Diffusion: the configs of its parts, to be trained from scratch on a CPU.

Images of 32 x 32 become latents of 8 x 8 x 4; a UNet of two levels reads the caption at every one,
or a transformer of image and text in its place, as in Stable Diffusion 3.
All parts are those of Stable Diffusion 1.x but for their sizes: what is saved loads like any other
model.
"""

from typing import Any, NamedTuple


class Size(NamedTuple):
    """What a small model is made of: the side of images, channels by level (the UNet's multiples of
    32), and so on. ``tokens`` of a caption count the two that mark its start and end."""

    image: int = 32
    latent_channels: int = 4
    autoencoder: tuple[int, ...] = (16, 32, 64)
    autoencoder_groups: int = 8
    unet: tuple[int, ...] = (64, 128)
    heads: int = 4
    text_width: int = 64
    text_layers: int = 2
    text_heads: int = 4
    tokens: int = 32

    @property
    def latent(self) -> int:
        """Side of the latents, halved once per level of the autoencoder but the first."""
        return self.image // 2 ** (len(self.autoencoder) - 1)


class TransformerSize(NamedTuple):
    """What a small transformer of image and text is made of; a latent's pixels are its tokens."""

    width: int = 128
    depth: int = 6
    heads: int = 4


def transformer_config(size: Size, transformer: TransformerSize) -> dict[str, Any]:
    """``transformer/config.json``."""
    return {
        "_class_name": "SD3Transformer2DModel",
        "attention_head_dim": transformer.width // transformer.heads,
        "caption_projection_dim": transformer.width,
        "dual_attention_layers": [],
        "in_channels": size.latent_channels,
        "out_channels": size.latent_channels,
        "joint_attention_dim": size.text_width,
        "num_attention_heads": transformer.heads,
        "num_layers": transformer.depth,
        "patch_size": 1,
        "pooled_projection_dim": size.text_width,
        "pos_embed_max_size": size.latent,
        "qk_norm": "rms_norm",
        "sample_size": size.latent,
    }


def autoencoder_config(size: Size, scale: float) -> dict[str, Any]:
    """``vae/config.json``; latents are multiplied by ``scale``, to unit variance."""
    levels = len(size.autoencoder)
    return {
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": list(size.autoencoder),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": size.latent_channels,
        "layers_per_block": 1,
        "norm_num_groups": size.autoencoder_groups,
        "sample_size": size.image,
        "scaling_factor": scale,
    }


def unet_config(size: Size) -> dict[str, Any]:
    """``unet/config.json``."""
    levels = len(size.unet)
    return {
        "_class_name": "UNet2DConditionModel",
        "act_fn": "silu",
        "attention_head_dim": size.heads,  # the number of heads, by a name that stuck
        "block_out_channels": list(size.unet),
        "center_input_sample": False,
        "cross_attention_dim": size.text_width,
        "down_block_types": ["CrossAttnDownBlock2D"] * levels,
        "up_block_types": ["CrossAttnUpBlock2D"] * levels,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": size.latent_channels,
        "out_channels": size.latent_channels,
        "layers_per_block": 1,
        "norm_eps": 1e-5,
        "norm_num_groups": 32,
        "sample_size": size.latent,
    }


def text_config(size: Size, vocabulary: int) -> dict[str, Any]:
    """``text_encoder/config.json``; the last two tokens of the vocabulary are start and end."""
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "hidden_act": "quick_gelu",
        "hidden_size": size.text_width,
        "intermediate_size": 4 * size.text_width,
        "num_hidden_layers": size.text_layers,
        "num_attention_heads": size.text_heads,
        "projection_dim": size.text_width,
        "max_position_embeddings": size.tokens,
        "vocab_size": vocabulary,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
    }
