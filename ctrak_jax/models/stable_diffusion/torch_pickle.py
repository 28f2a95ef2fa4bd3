"""PyTorch's zip archives of tensors (``.bin``, ``.pt``) by numpy alone.

An archive holds a pickle, ``<name>/data.pkl``, whose tensors point to raw storages,
``<name>/data/<key>``. A pickle can call any function that its reader can find. This reader finds
those that put a tensor together, in forms of its own, and nothing else.
"""

import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ctrak_jax.errors import UsageError

STORAGES = {
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(jnp.bfloat16),
}
LARGEST = 2**28
"""Bytes of an entry; embeddings are smaller by far, so more than this is no embedding."""


def read_archive(file: Path) -> Any:
    """What ``torch.save`` wrote: the containers with NumPy arrays for the tensors."""
    if not zipfile.is_zipfile(file):
        raise UsageError(
            f"{file} is no zip archive, as torch.save has written since PyTorch 1.6; take the "
            ".safetensors file, or load it where it is trusted and save it anew: "
            "torch.save(torch.load(FILE, weights_only=True), FILE)."
        )
    try:
        with zipfile.ZipFile(file) as archive:
            (name,) = (n for n in archive.namelist() if n.endswith("/data.pkl"))
            return _Reader(archive, name.removesuffix("data.pkl")).load()
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None
    except Exception as error:  # a damaged archive raises many kinds
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UsageError(
            f"{file} cannot be read as PyTorch's tensors ({reason}); fetch the file again, or take "
            "the .safetensors file."
        ) from None


class _Reader(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, prefix: str):
        self.archive, self.prefix = archive, prefix
        super().__init__(BytesIO(_sized(self._entry("data.pkl"))))
        if f"{prefix}byteorder" in archive.namelist() and self._entry("byteorder") != b"little":
            raise ValueError("its byte order is not little")

    def _entry(self, name: str) -> bytes:
        info = self.archive.getinfo(f"{self.prefix}{name}")
        if info.file_size > LARGEST:
            raise ValueError(f"{info.filename} is larger than {LARGEST} bytes")
        return self.archive.read(info)

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """The few names that a tensor is made of; fresh functions, which a pickle may spoil."""
        match module_name, global_name:
            case "torch", storage if storage in STORAGES:
                return storage
            case "torch._utils", "_rebuild_tensor_v2":
                return lambda *given: _tensor(*given)
            case "torch._utils", "_rebuild_parameter":
                return lambda tensor, *_: tensor
            case "collections", "OrderedDict":
                return OrderedDict
        raise UsageError(
            f"its pickle asks for {module_name}.{global_name}, which is no part of a tensor and is "
            "not run; take the .safetensors file of the same embedding."
        )

    def persistent_load(self, pid: Any, /) -> np.ndarray:
        """A storage: ("storage", type, key, device, elements)."""
        kind, storage, key, _, elements = pid
        if kind != "storage":
            raise ValueError(f"a reference to {kind!r}")
        values = np.frombuffer(self._entry(f"data/{key}"), STORAGES[storage])
        if len(values) != elements:
            raise ValueError(f"storage {key} holds {len(values)} numbers instead of {elements}")
        return values


def _sized(content: bytes) -> bytes:
    """The pickle, when no length or place in it is beyond it: they are believed when it is run."""
    for code, value, _ in pickletools.genops(content):
        if (code.name.endswith("PUT") or code.name == "FRAME") and (value or 0) > len(content):
            raise ValueError(f"{code.name} of {value} in a pickle of {len(content)} bytes")
    return content


def _tensor(
    storage: np.ndarray, offset: int, shape: Sequence[int], strides: Sequence[int], *_: Any
) -> np.ndarray:
    """The view of a storage, as an array of its own. Strides count elements."""
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    inside = min(offset, *shape, *strides, last) >= 0 and last < len(storage)
    if not inside or prod(shape) > len(storage):
        raise ValueError(f"a tensor {shape} reaches beyond its {len(storage)} numbers")
    size = storage.itemsize
    view = np.lib.stride_tricks.as_strided(
        storage[offset:], shape, [step * size for step in strides], writeable=False
    )
    return view.copy()
