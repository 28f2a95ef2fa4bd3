"""Low-rank adapters (LoRA): on a network's layers, and out of other tools' files.

:mod:`ctrak_jax.models.lora.layers` computes with them, :mod:`ctrak_jax.models.lora.spellings` knows
the names that tools give their tensors, :mod:`ctrak_jax.models.lora.factors` their alphas, and
:mod:`ctrak_jax.models.lora.files` puts a file's adapters on a network's layers.
"""

from ctrak_jax.models.lora.files import LoraFile, Loras, read_loras
from ctrak_jax.models.lora.layers import (
    PATTERN,
    Adapted,
    LayerAdapter,
    adapting,
    add_adapters,
    merge_adapters,
    train_adapters,
)

__all__ = [
    "PATTERN",
    "Adapted",
    "LayerAdapter",
    "LoraFile",
    "Loras",
    "adapting",
    "add_adapters",
    "merge_adapters",
    "read_loras",
    "train_adapters",
]
