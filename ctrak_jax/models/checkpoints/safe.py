"""safetensors by numpy alone: 8 bytes of length, a JSON header, raw little-endian values.

The package safetensors gives NumPy no float8; ml_dtypes, which comes with JAX, has it. Values are
mapped into memory and read when they are used.
"""

import json
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "F8_E4M3": jnp.float8_e4m3fn,
    "F8_E5M2": jnp.float8_e5m2,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
LONGEST_HEADER = 100_000_000
"""Bytes; the format's own limit."""


class SafeFile(NamedTuple):
    """Arrays by name, and the texts that the file has beside them."""

    tensors: dict[str, np.ndarray]
    metadata: dict[str, str]


def is_safe(start: bytes) -> bool:
    """Do these first bytes of a file look like a safetensors header?"""
    return len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**40


def read(file: Path) -> SafeFile:
    """A safetensors file.

    Raises:
        ValueError: it is damaged, or a tensor's values are not within it.
    """
    size = file.stat().st_size
    with file.open("rb") as content:
        length = int.from_bytes(content.read(8), "little")
        if not 2 <= length <= min(size - 8, LONGEST_HEADER):
            raise ValueError(f"its header of {length} bytes is not within its {size} bytes")
        header = json.loads(content.read(length).decode("utf-8"))
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    about = header.pop("__metadata__", None) or {}
    values = np.empty(0, np.uint8)
    if size > 8 + length:
        values = np.asarray(np.memmap(file, np.uint8, "r", offset=8 + length))
    found = {name: _tensor(name, entry, values) for name, entry in header.items()}
    return SafeFile(found, {str(key): str(value) for key, value in dict(about).items()})


def _tensor(name: str, entry: Any, values: np.ndarray) -> np.ndarray:
    try:
        kind, shape, (first, last) = entry["dtype"], entry["shape"], entry["data_offsets"]
        sizes = [*shape, first, last]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"the entry of {name!r} is not that of a tensor") from None
    if not all(type(number) is int and number >= 0 for number in sizes):
        raise ValueError(f"the shape or place of {name!r} is no list of numbers")
    if kind not in DTYPES:
        raise ValueError(f"{name!r} is of dtype {kind}, which is not read; save it as float16")
    dtype = np.dtype(DTYPES[kind])
    if last - first != prod(shape) * dtype.itemsize or not first <= last <= len(values):
        raise ValueError(f"the values of {name!r} are not within the file, which may be cut short")
    return values[first:last].view(dtype).reshape(shape)
