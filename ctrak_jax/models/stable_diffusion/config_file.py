"""The parts of a pretrained model, and what their settings may say."""

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


def refuse_others(
    file: Path,
    config: Mapping[str, Any],
    only: Mapping[str, Any],
    supported: str = "a Stable Diffusion 1.x or 2.x model",
) -> None:
    """Refuse settings that a network would pass over in silence: those with another value than
    ``only`` has. A setting left out is taken to have it."""
    for key, value in only.items():
        got = config.get(key, value)
        if got != value:
            raise UsageError(
                f"{file}: {key} is {got!r}, only {value!r} is supported; use {supported}."
            )
