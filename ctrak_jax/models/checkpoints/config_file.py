"""The JSON files beside weights, which say what they are of."""

import json
from pathlib import Path
from typing import Any

from ctrak_jax.errors import UsageError


def read_config(file: Path) -> dict[str, Any]:
    """Read one of the folder's JSON files."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError:
        raise UsageError(
            f"{file} is missing; point to the folder of a whole Stable Diffusion model "
            "(model_index.json, unet/, vae/, text_encoder/, tokenizer/, scheduler/)."
        ) from None
    except (ValueError, RecursionError) as error:  # no JSON, or no text
        raise UsageError(f"{file} is no JSON ({error}); fetch the file again.") from None
    if not isinstance(found, dict):
        raise UsageError(f"{file} holds a {type(found).__name__}, expected an object of settings.")
    return found
