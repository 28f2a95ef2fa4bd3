"""Low-rank adapters (LoRA): on a network's layers, and out of other tools' files.

Computing with them is in :mod:`ctrak_jax.models.lora.layers`, the base of denoisers that may have
them in :mod:`ctrak_jax.models.lora.adapted`; the names that tools give their tensors in
:mod:`ctrak_jax.models.lora.spellings`; alphas in :mod:`ctrak_jax.models.lora.factors`; reading a
file in :mod:`ctrak_jax.models.lora.files`; writing one in :mod:`ctrak_jax.models.lora.written`.
"""

from ctrak_jax.models.lora.files import LoraFile, Loras, read_loras
from ctrak_jax.models.lora.layers import (
    PATTERN,
    Adapted,
    LayerAdapter,
    adapters_in,
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
    "adapters_in",
    "adapting",
    "add_adapters",
    "merge_adapters",
    "read_loras",
    "train_adapters",
]
