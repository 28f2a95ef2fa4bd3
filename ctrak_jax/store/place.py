"""Where a store is: a folder, or any URL that tensorstore opens (``gs://``, ``s3://``, ...).

What tensorstore or the disk refuses is a :class:`StoreError` that names the file.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from ctrak_jax.errors import StoreError
from ctrak_jax.log import logger

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


@contextmanager
def refusals(what: str, advice: str = "") -> Iterator[None]:
    """Turns errors of tensorstore and of the disk into StoreErrors: ``what``, reason, advice."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise StoreError(f"{what} ({reason(error)}){advice}.") from error


def keys(place: Place) -> ts.KvStore:
    """The files at a place, by name."""
    with refusals(f"{place}: cannot be opened"):
        return ts.KvStore.open(_kvstore(place), context=_CONTEXT).result()


def read_bytes(place: Place, name: str) -> bytes | None:
    """The content of a file, or ``None`` where there is none."""
    with refusals(f"{below(place, name)}: cannot be read"):
        found = keys(place).read(name).result()
    return bytes(found.value) if found.state == "value" else None


def write_bytes(place: Place, name: str, content: bytes) -> None:
    """Write a file whole or not at all."""
    with refusals(f"{below(place, name)}: cannot be written"):
        keys(place).write(name, content).result()


def open_array(place: Place) -> ts.TensorStore:
    """An existing zarr array."""
    with refusals(f"{place}: cannot be opened"):
        return ts.open(_spec(place), open=True, context=_CONTEXT).result()


def create_array(
    place: Place, shape: Sequence[int], chunk: int, dtype: str, *, columns: int | None = None
) -> ts.TensorStore:
    """A zarr v3 array cut along its first axis, and along the second where ``columns`` are given;
    crc32c on every chunk; an older one is replaced."""
    rest = list(shape[1:]) if columns is None else [columns, *shape[2:]]
    spec = _spec(place)
    spec["metadata"] = {
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [chunk, *(max(1, n) for n in rest)]},
        },
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "crc32c"},
        ],
    }
    with refusals(f"{place}: cannot be written"):
        return ts.open(spec, create=True, delete_existing=True, context=_CONTEXT).result()


def read_values(array: ts.TensorStore, name: str, advice: str) -> np.ndarray:
    """The values of an array or a part of it, read once more where the first read fails: a network
    file system may have delivered wrong bytes. ``name`` and ``advice`` are the error's."""
    try:
        return np.asarray(array.read().result())
    except (OSError, ValueError) as error:
        logger.warning("%s: read again, since the first read failed (%s)", name, reason(error))
    with refusals(f"{name} is damaged", f"; {advice}"):
        return np.asarray(array.read().result())


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
