"""The JSON files beside weights, which say what they are of."""

import json
from collections.abc import Mapping
from pathlib import Path
from reprlib import repr as short
from typing import Any

from ctrak_jax.errors import UsageError

LARGEST = 2**26
"""Bytes of the largest that is read; a tokenizer.json has some millions."""
COUNTS = (
    *("layers_per_block", "transformer_layers_per_block", "num_hidden_layers"),
    *("num_layers", "num_single_layers"),
    *("down_block_types", "up_block_types", "block_out_channels"),
)
"""Settings whose numbers, or the lengths of whose lists, say how many layers there are."""
MOST_LAYERS = 128
"""Of each kind. FLUX.1 has 38 blocks of one kind; all are made before weights are read."""


def read_config(file: Path) -> dict[str, Any]:
    """Read one of the folder's JSON files.

    Raises:
        UsageError: missing, too large, no JSON object, or of a network of too many layers.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(LARGEST + 1)
    except OSError:
        raise UsageError(
            f"{file} is missing; point to the folder of a whole Stable Diffusion model "
            "(model_index.json, unet/, vae/, text_encoder/, tokenizer/, scheduler/)."
        ) from None
    if len(content) > LARGEST:
        raise UsageError(f"{file} has more than {LARGEST:,} bytes; fetch the file again.")
    try:
        found = json.loads(content.decode())
    except (ValueError, RecursionError) as error:  # no JSON, or no text
        raise UsageError(f"{file} is no JSON ({error}); fetch the file again.") from None
    if not isinstance(found, dict):
        raise UsageError(f"{file} holds a {type(found).__name__}, expected an object of settings.")
    for settings in (found, found.get("text_config"), found.get("vision_config")):
        if isinstance(settings, dict):
            _require_few_layers(file, settings)
    return found


def _require_few_layers(file: Path, settings: Mapping[str, Any]) -> None:
    for name in COUNTS:
        value = settings.get(name)
        counts = [len(value), *value] if isinstance(value, list) else [value]
        for count in counts if name in COUNTS[:5] else counts[:1]:
            if count is not None and (type(count) is not int or not 0 < count <= MOST_LAYERS):
                raise UsageError(
                    f"{file}: {name} is {short(value)}, expected from 1 to {MOST_LAYERS} layers; "
                    "use a whole model's config.json."
                )
