"""Text, JSON and arrays of data files; what is wrong with one is one clear line."""

import json
import tokenize
from pathlib import Path
from typing import Any

import numpy as np

from ctrak_jax.errors import UsageError


def decoded(data: bytes, name: Any) -> str:
    """UTF-8 text, its line ends as they are; ``name`` is what an error calls the place."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: not UTF-8 text ({error}).") from None


def json_object(data: bytes, name: Any, example: str) -> dict[str, Any]:
    """A JSON object such as ``example``."""
    try:
        found = json.loads(decoded(data, name))
    except json.JSONDecodeError as error:
        raise UsageError(f"{name}: not valid JSON ({error}).") from None
    if not isinstance(found, dict):
        got = type(found).__name__
        raise UsageError(f"{name}: got a {got}, expected an object such as {example}.")
    return found


def open_npy(file: Path, advice: str = "") -> np.ndarray:
    """A mapped .npy file; :func:`numpy.load` would take .npz, too."""
    try:
        return np.lib.format.open_memmap(file, mode="r")
    except (OSError, ValueError, tokenize.TokenError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{file}: not a readable .npy file ({reason}){advice}.") from None
