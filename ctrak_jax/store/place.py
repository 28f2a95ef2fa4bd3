"""Where a store is: a folder, or any URL that tensorstore opens (``gs://``, ``s3://``, ...)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from ctrak_jax.errors import StoreError

Place = Path | str
"""A folder, or the URL of one."""

# One for all: stores of the ``memory`` driver live in it.
_CONTEXT = ts.Context()


def is_url(place: Place) -> bool:
    """Is it a URL and not a folder?"""
    return isinstance(place, str) and "://" in place


def below(place: Place, *names: str) -> Place:
    """A place inside another; empty names lead nowhere."""
    named = [name for name in names if name]
    if is_url(place):
        return "/".join([str(place).rstrip("/"), *named])
    return Path(place).joinpath(*named)


def reason(error: BaseException) -> str:
    """The first line of an error, without tensorstore's source locations."""
    return str(error).splitlines()[0].split(" [source locations")[0].strip() or repr(error)


def keys(place: Place) -> ts.KvStore:
    """The files at a place, by name.

    Raises:
        StoreError: tensorstore does not open it.
    """
    try:
        return ts.KvStore.open(_kvstore(place), context=_CONTEXT).result()
    except (OSError, ValueError) as error:
        raise StoreError(f"{place}: cannot be opened ({reason(error)}).") from error


def read_bytes(place: Place, name: str) -> bytes | None:
    """The content of a file, or ``None`` where there is none.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        found = keys(place).read(name).result()
    except (OSError, ValueError) as error:
        raise StoreError(f"{below(place, name)}: cannot be read ({reason(error)}).") from error
    return bytes(found.value) if found.state == "value" else None


def write_bytes(place: Place, name: str, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        StoreError: the disk refuses.
    """
    try:
        keys(place).write(name, content).result()
    except (OSError, ValueError) as error:
        raise StoreError(f"{below(place, name)}: cannot be written ({reason(error)}).") from error


def open_array(place: Place) -> ts.TensorStore:
    """An existing zarr array.

    Raises:
        StoreError: missing or damaged.
    """
    try:
        return ts.open(_spec(place), open=True, context=_CONTEXT).result()
    except (OSError, ValueError) as error:
        raise StoreError(f"{place}: cannot be opened ({reason(error)}).") from error


def create_array(
    place: Place, shape: Sequence[int], chunk: int, dtype: str, *, replace: bool = False
) -> ts.TensorStore:
    """A zarr v3 array cut along its first axis, with crc32c on every chunk; an older one of the
    same kind is opened, or replaced.

    Raises:
        StoreError: another array is there, or the disk refuses.
    """
    spec = _spec(place)
    spec["metadata"] = {
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [chunk, *(max(1, n) for n in shape[1:])]},
        },
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "crc32c"},
        ],
    }
    try:
        return ts.open(
            spec, create=True, delete_existing=replace, open=not replace, context=_CONTEXT
        ).result()
    except (OSError, ValueError) as error:
        raise StoreError(f"{place}: cannot be written ({reason(error)}).") from error


def read_values(array: ts.TensorStore, name: str, advice: str) -> np.ndarray:
    """The values of an array or a part of it.

    Raises:
        StoreError: a chunk is missing or damaged.
    """
    try:
        return np.asarray(array.read().result())
    except (OSError, ValueError) as error:
        raise StoreError(f"{name} is damaged ({reason(error)}); {advice}.") from error


def _kvstore(place: Place) -> Any:
    if is_url(place):
        return str(place).rstrip("/") + "/"
    return {"driver": "file", "path": f"{Path(place).resolve()}/"}


def _spec(place: Place) -> dict[str, Any]:
    return {
        "driver": "zarr3",
        "kvstore": _kvstore(place),
        # A lost chunk is an error, never zeros: zeros are written like any other values.
        "store_data_equal_to_fill_value": True,
        "fill_missing_data_reads": False,
    }
