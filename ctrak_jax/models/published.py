"""Reading published checkpoints: the parameter names and layouts of the PyTorch DiT, and ours.

Their ``Linear.weight`` is [out, in] (ours [in, out]); their patch embedding is a convolution
[width, channel, patch, patch] over the same patches (ours a matrix [patch * patch * channel, width]
with the channel fastest). Their position table is a constant, not a parameter.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import unflatten_dict

CONSTANTS = ("pos_embedder",)
MODULES = {
    "x_embedder.proj": "patch_embedding",
    "t_embedder.mlp.0": "time_embedding_0",
    "t_embedder.mlp.2": "time_embedding_1",
    "y_embedder": "condition_embedding",
    "final_layer.adaLN_modulation.1": "final_modulation",
    "final_layer.norm_final": "final_norm",
    "final_layer.linear": "final",
}


def _module(name: str) -> str | None:
    """Our module path for theirs, ``None`` where it is unknown."""
    if name in MODULES:
        return MODULES[name]
    match = re.fullmatch(
        r"blocks\.(\d+)\.(adaLN_modulation\.1|norm[12]|attn\.(?:qkv|proj|q_norm|k_norm)|mlp\.w(?:12|3))",
        name,
    )
    if match is None:
        return None
    inner = match[2].replace("adaLN_modulation.1", "modulation").replace(".", "/")
    return f"block_{match[1]}/{inner}"


def convert(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Published tensors (or gradients) by name -> our parameters, nested, float32."""
    params: dict[str, np.ndarray] = {}
    for name, value in tensors.items():
        if name in CONSTANTS:
            continue
        theirs, _, leaf = name.rpartition(".")
        module = _module(theirs)
        if module is None or leaf not in ("weight", "bias"):
            raise ValueError(
                f"tensor {name!r} is not a parameter of the published DiT; "
                "expected names such as 'blocks.0.attn.qkv.weight'."
            )
        value = np.asarray(value, np.float32)
        if leaf == "bias":
            params[f"{module}/bias"] = value
        elif value.ndim == 1:
            params[f"{module}/scale"] = value
        elif value.ndim == 4:
            params[f"{module}/kernel"] = value.transpose(2, 3, 1, 0).reshape(-1, value.shape[0])
        else:
            params[f"{module}/kernel"] = value.T
    return unflatten_dict(params, sep="/")
