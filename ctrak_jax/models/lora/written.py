"""A LoRA as a file of diffusers: ``pytorch_lora_weights.safetensors``, which peft's users read too.

Layers have PyTorch's names, matrices peft's (``unet.<layer>.lora_A.weight`` [r, in], ``lora_B``
[out, r]). r and alpha stand in the metadata, as diffusers writes them from version 0.34.
"""

import json
import re
import struct
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from ctrak_jax.models.lora.factors import METADATA
from ctrak_jax.models.lora.spellings import Net
from ctrak_jax.typing import Array

NUMBERED = re.compile(
    r"(blocks|attentions|resnets|samplers|to_out|net|layers)_(\d+)(?=/|$)",
)
"""Parts of flax's paths that are items of a list in PyTorch."""


def lora_file(
    matrices: Mapping[Net, Mapping[str, Array]],
    rank: int,
    alpha: float,
    denoiser: Literal["unet", "transformer"] = "unet",
) -> bytes:
    """The content of the file.

    Args:
        matrices: by network: A [in, r] and B [r, out], by path (``<layer>/lora_a``, ``lora_b``).
        rank: r of all layers.
        alpha: the product A B is multiplied by alpha / r.
        denoiser: what diffusers calls it.
    """
    tensors: dict[str, np.ndarray] = {}
    settings: dict[str, Any] = {}
    sections = {"unet": f"{denoiser}.", "text": "text_encoder."}
    for net, found in matrices.items():
        for path, value in found.items():
            layer, _, name = path.rpartition("/lora_")
            whole = f"{sections[net]}{torch_name(layer)}.lora_{name.upper()}.weight"
            tensors[whole] = np.ascontiguousarray(np.asarray(value, np.float32).T)
        names = {torch_name(path.rpartition("/")[0]) for path in found}
        # Ends of names are enough for peft; transformers 5 has none that begin with text_model.
        layers = sorted(name.removeprefix("text_model.") for name in names)
        about = {"lora_alpha": alpha, "peft_type": "LORA", "r": rank, "target_modules": layers}
        settings |= {f"{sections[net]}{name}": value for name, value in about.items() if layers}
    return _safetensors(tensors, {"format": "pt", METADATA: json.dumps(settings, indent=2)})


def torch_name(layer: str) -> str:
    """PyTorch's name of a layer: ``down_blocks_0/attentions_1/.../to_out_0`` is
    ``down_blocks.0.attentions.1. ... .to_out.0``."""
    return NUMBERED.sub(r"\1.\2", layer).replace("/", ".")


def _safetensors(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """The format by hand: safetensors' own writer puts metadata in an order that changes from call
    to call, and the same LoRA is to be the same bytes."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, value in sorted(tensors.items()):
        begin, end = end, end + value.nbytes
        header[name] = {"dtype": "F32", "shape": value.shape, "data_offsets": [begin, end]}
    said = json.dumps(header, separators=(",", ":")).encode()
    said += b" " * (-len(said) % 8)
    values = [value.astype("<f4").tobytes() for _, value in sorted(tensors.items())]
    return struct.pack("<Q", len(said)) + said + b"".join(values)
