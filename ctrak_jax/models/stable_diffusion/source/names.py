"""The names of single-file checkpoints (latent diffusion's, OpenCLIP's) as diffusers' names.

A part's ``config.json`` says how many blocks there are; with it every name has one place::

    input_blocks.N.M          down_blocks.b.{resnets,attentions,downsamplers}.i
    middle_block.K            mid_block.{resnets.0,attentions.0,resnets.1}
    output_blocks.N.M         up_blocks.b.{resnets,attentions,upsamplers}.i
    encoder.down.b.block.i    encoder.down_blocks.b.resnets.i
    decoder.up.b.block.i      decoder.up_blocks.(levels-1-b).resnets.i
    transformer.resblocks.n   text_model.encoder.layers.n, its fused in_proj as three
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

Tensors = dict[str, np.ndarray]

RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
}
VAE_ATTENTION = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
}
OPEN_CLIP = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
OPEN_CLIP_UNUSED = ("text_projection", "logit_scale", "attn_mask")


def unet_modules(config: Mapping[str, Any]) -> dict[str, str]:
    """Latent diffusion's name of every block of a UNet -> diffusers' name."""
    found, layers = dict(ENDS), config.get("layers_per_block", 2)
    down, up = config["down_block_types"], config["up_block_types"]
    for b, kind in enumerate(down):
        for i in range(layers):
            number = 1 + b * (layers + 1) + i
            found[f"input_blocks.{number}.0"] = f"down_blocks.{b}.resnets.{i}"
            if "CrossAttn" in kind:
                found[f"input_blocks.{number}.1"] = f"down_blocks.{b}.attentions.{i}"
        last = f"input_blocks.{1 + b * (layers + 1) + layers}.0.op"
        found[last] = f"down_blocks.{b}.downsamplers.0.conv"
    for b, kind in enumerate(up):
        for i in range(layers + 1):
            number = b * (layers + 1) + i
            found[f"output_blocks.{number}.0"] = f"up_blocks.{b}.resnets.{i}"
            if "CrossAttn" in kind:
                found[f"output_blocks.{number}.1"] = f"up_blocks.{b}.attentions.{i}"
        place = 2 if "CrossAttn" in kind else 1
        last = f"output_blocks.{b * (layers + 1) + layers}.{place}.conv"
        found[last] = f"up_blocks.{b}.upsamplers.0.conv"
    return found


def unet(tensors: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> Tensors:
    """A UNet's tensors under diffusers' names; a name that has none there stays as it is."""
    modules = unet_modules(config)

    def renamed(name: str) -> str:
        block, rest = _split(name, modules)
        if block is None:
            return name
        inner, _, leaf = rest.rpartition(".")
        if ".resnets." in modules[block]:
            inner = RESNET.get(inner, inner)
        return ".".join(filter(None, (modules[block], inner, leaf)))

    return {renamed(name): value for name, value in tensors.items()}


def _split(name: str, modules: Mapping[str, str]) -> tuple[str | None, str]:
    """The longest block that a name begins with, and the rest."""
    pieces = name.split(".")
    for count in range(min(len(pieces), 4), 0, -1):
        block = ".".join(pieces[:count])
        if block in modules:
            return block, ".".join(pieces[count:])
    return None, name


def autoencoder(tensors: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> Tensors:
    """An autoencoder's tensors under diffusers' names; its attention's 1 x 1 convolutions are
    linear layers there."""
    levels = len(config.get("block_out_channels", ()))
    found: Tensors = {}
    for name, value in tensors.items():
        new = _vae_name(name, levels)
        square = ".mid_block.attentions.0." in new and value.ndim == 4
        found[new] = value[:, :, 0, 0] if square and value.shape[2:] == (1, 1) else value
    return found


def _vae_name(name: str, levels: int) -> str:
    def up(found: re.Match[str]) -> str:
        return f"decoder.up_blocks.{levels - 1 - int(found[1])}."

    name = re.sub(r"^encoder\.down\.(\d+)\.", r"encoder.down_blocks.\1.", name)
    name = re.sub(r"^decoder\.up\.(\d+)\.", up, name)
    name = re.sub(r"_blocks\.(\d+)\.block\.(\d+)\.", r"_blocks.\1.resnets.\2.", name)
    name = re.sub(r"\.downsample\.conv\.", ".downsamplers.0.conv.", name)
    name = re.sub(r"\.upsample\.conv\.", ".upsamplers.0.conv.", name)
    name = re.sub(r"^(encoder|decoder)\.norm_out\.", r"\1.conv_norm_out.", name)
    name = name.replace(".nin_shortcut.", ".conv_shortcut.")
    name = re.sub(r"\.mid\.block_([12])\.", lambda m: f".mid_block.resnets.{int(m[1]) - 1}.", name)
    return re.sub(
        r"\.mid\.attn_1\.(norm|q|k|v|proj_out)\.",
        lambda m: f".mid_block.attentions.0.{VAE_ATTENTION[m[1]]}.",
        name,
    )


def open_clip(tensors: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> Tensors:
    """OpenCLIP's text tensors under transformers' names. The file may have one layer more than
    ``config``: Stable Diffusion 2 reads the layer before the last."""
    layers = config["num_hidden_layers"]
    names = {
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "ln_final.weight": "text_model.final_layer_norm.weight",
        "ln_final.bias": "text_model.final_layer_norm.bias",
    }
    found: Tensors = {}
    for name, value in tensors.items():
        block = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)", name)
        fused = re.fullmatch(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)", name)
        if name in OPEN_CLIP_UNUSED or (block or fused or {1: -1})[1] == str(layers):
            continue
        if fused:
            layer = f"text_model.encoder.layers.{fused[1]}.self_attn"
            thirds = np.split(value, 3)
            for letter, part in zip("qkv", thirds, strict=True):
                found[f"{layer}.{letter}_proj.{fused[2]}"] = part
        elif block and block[2] in OPEN_CLIP:
            layer = f"text_model.encoder.layers.{block[1]}"
            found[f"{layer}.{OPEN_CLIP[block[2]]}.{block[3]}"] = value
        else:
            found[names.get(name, name)] = value
    return found


def text_encoder(tensors: Mapping[str, np.ndarray]) -> Tensors:
    """Transformers' text tensors with the prefix that some versions leave out."""
    roots = ("embeddings.", "encoder.", "final_layer_norm.")
    return {
        f"text_model.{name}" if name.startswith(roots) else name: value
        for name, value in tensors.items()
    }
