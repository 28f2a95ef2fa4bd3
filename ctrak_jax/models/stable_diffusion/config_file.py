"""The parts of a pretrained model and the JSON files that describe them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from ctrak_jax.errors import UsageError
from ctrak_jax.typing import Params

N = TypeVar("N")


@dataclass(frozen=True)
class Component(Generic[N]):
    """One part of a model, and its parameters (float32)."""

    network: N
    params: Params


def read_config(file: Path) -> dict[str, Any]:
    """Read one of the folder's JSON files."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError:
        raise UsageError(
            f"{file} is missing; point to the folder of a whole Stable Diffusion model "
            "(model_index.json, unet/, vae/, text_encoder/, tokenizer/, scheduler/)."
        ) from None
    except ValueError as error:  # no JSON, or no text
        raise UsageError(f"{file} is no JSON ({error}); fetch the file again.") from None
    if not isinstance(found, dict):
        raise UsageError(f"{file} holds a {type(found).__name__}, expected an object of settings.")
    return found


def refuse_others(file: Path, config: Mapping[str, Any], only: Mapping[str, Any]) -> None:
    """Refuse settings that the Flax classes would pass over in silence: those with another value
    than ``only`` has. A setting left out is taken to have it."""
    for key, value in only.items():
        got = config.get(key, value)
        if got != value:
            raise UsageError(
                f"{file}: {key} is {got!r}, only {value!r} is supported; use a Stable Diffusion "
                "1.x or 2.x model."
            )
