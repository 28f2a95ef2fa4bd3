"""Text, JSON and arrays of data files; what is wrong with one is one clear line."""

import json
import tokenize
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path
from typing import Any

import numpy as np

from ctrak_jax.errors import StoreError, UsageError

LARGEST = 2**30
"""Bytes of the largest table that is read; a caption or record may have ``LARGEST_RECORD``."""
LARGEST_RECORD = 2**24


def read_error(name: Any, error: OSError | MemoryError) -> UsageError | StoreError:
    """What stopped a read, in one line: there is no such file; else the machine, now, and another
    read may go well."""
    reason = getattr(error, "strerror", None) or "out of memory"
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return UsageError(f"{name}: {reason}.")
    return StoreError(f"{name}: cannot be read now ({reason}); the same command tries again.")


def read_bounded(file: Path, most: int | None = None) -> bytes:
    """A file's bytes, refused where there are more than ``most``, by default ``LARGEST``."""
    most = LARGEST if most is None else most
    try:
        with file.open("rb") as stream:
            data = stream.read(most + 1)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}.") from None
    if len(data) > most:
        raise UsageError(f"{file}: larger than {most:,} bytes; is it what its name says?")
    return data


def decoded(data: bytes, name: Any) -> str:
    """UTF-8 text, or UTF-16 with its mark, its line ends as they are; without a byte order mark.
    ``name`` is what an error calls the place."""
    encoding = "utf-16" if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: not UTF-8 text ({error}); save it as UTF-8.") from None


def json_object(data: bytes, name: Any, example: str) -> dict[str, Any]:
    """A JSON object such as ``example``."""
    text = decoded(data, name)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:  # no JSON, too many digits, or too deep
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
