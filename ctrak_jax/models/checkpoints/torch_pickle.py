"""PyTorch's pickles of tensors (``.bin``, ``.pt``, ``.ckpt``) by numpy alone.

A file holds a pickle whose tensors point to raw storages. In a zip archive, which PyTorch has
written since version 1.6, they are entries ``<name>/data.pkl`` and ``<name>/data/<key>``; before,
the storages came after the pickle in the same file. A pickle can call any function that its reader
can find. This reader finds those that put a tensor together, in forms of its own, and nothing else.
Objects of some libraries that trained models keep beside their weights become :class:`Inert` ones.
"""

import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ctrak_jax.errors import UsageError

STORAGES: dict[str, np.dtype] = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(jnp.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
    "UntypedStorage": np.dtype(np.uint8),
}
DTYPES = {
    "float8_e4m3fn": np.dtype(jnp.float8_e4m3fn),
    "float8_e5m2": np.dtype(jnp.float8_e5m2),
}
"""Of tensors without a storage type of their own."""
LARGEST_PICKLE = 2**28
"""Bytes. The pickle names the tensors; their values are not in it."""
TRAINING = ("pytorch_lightning", "lightning", "lightning_fabric", "omegaconf", "numpy", "argparse")
"""Libraries whose objects stand beside the weights of training checkpoints."""
HARMLESS = ("dict", "list", "set", "tuple", "int", "float", "str", "bool", "object", "complex")
MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle of a file that is no zip archive."""
REPEATED = 4
"""How often all tensors together may read every byte of the file: some share their storage."""


class Inert:
    """Stands for an object of another library: it keeps the state it was given and does nothing."""

    state: Any = None

    def __new__(cls, *_given: Any, **_named: Any) -> "Inert":
        return object.__new__(cls)

    def __init__(self, *_given: Any, **_named: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, _key: Any, _value: Any) -> None: ...

    def append(self, _value: Any) -> None: ...

    def extend(self, _values: Any) -> None: ...


class Storage(NamedTuple):
    """Raw values of some tensors: their dtype, number and key in the file."""

    dtype: np.dtype
    key: str
    elements: int


class StoredTensor(NamedTuple):
    """A view of a storage that is not read yet. Strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype


def is_pickled(start: bytes) -> bool:
    """Do these first bytes of a file look like a zip archive or a pickle?"""
    return start.startswith((b"PK\x03\x04", b"\x80"))


def read_archive(
    file: Path,
    *,
    inert: Collection[str] = (),
    choose: Callable[[Any], Any] = lambda content: content,
) -> Any:
    """What ``torch.save`` wrote: the containers with NumPy arrays for the tensors.

    Args:
        inert: libraries whose objects become :class:`Inert`; any other is refused.
        choose: the part whose tensors are read.
    """
    try:
        if zipfile.is_zipfile(file):
            return _read_zip(file, inert, choose)
        return _read_one_file(file, inert, choose)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None
    except Exception as error:  # a damaged archive raises many kinds
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UsageError(
            f"{file} cannot be read as PyTorch's tensors ({reason}); fetch the file again, or take "
            "the .safetensors file."
        ) from None


def _read_zip(file: Path, inert: Collection[str], choose: Callable[[Any], Any]) -> Any:
    with zipfile.ZipFile(file) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("/data.pkl"))
        prefix = name.removesuffix("data.pkl")

        def entry(name: str, most: int) -> bytes:
            info = archive.getinfo(f"{prefix}{name}")
            stored = info.compress_type == zipfile.ZIP_STORED
            if not stored or info.file_size != info.compress_size or info.file_size > most:
                raise ValueError(f"{info.filename} is compressed or larger than {most} bytes")
            return archive.read(info)

        if f"{prefix}byteorder" in archive.namelist() and entry("byteorder", 64) != b"little":
            raise ValueError("its byte order is not little")
        content = BytesIO(entry("data.pkl", LARGEST_PICKLE))
        chosen = choose(_unpickled(content, inert))

        def values(storage: Storage) -> bytes:
            size = storage.elements * storage.dtype.itemsize
            found = entry(f"data/{storage.key}", file.stat().st_size)
            if len(found) != size:
                held = len(found) // storage.dtype.itemsize
                raise ValueError(
                    f"storage {storage.key} holds {held} numbers instead of {storage.elements}"
                )
            return found

        return _resolved(chosen, values, file.stat().st_size)


def _read_one_file(file: Path, inert: Collection[str], choose: Callable[[Any], Any]) -> Any:
    """The format before zip archives: four pickles, the storages' keys, and their values, each
    after its number of elements."""
    size = file.stat().st_size
    with file.open("rb") as whole:
        head = BytesIO(whole.read(LARGEST_PICKLE))
        magic = _unpickled(head, ()) if head.getvalue()[:1] == b"\x80" else None
        if magic != MAGIC:
            raise UsageError(
                "it is neither a zip archive nor a pickle of torch.save; take the .safetensors "
                "file, or load it where it is trusted and save it anew: "
                "torch.save(torch.load(FILE, weights_only=True), FILE)."
            )
        _protocol, system = _unpickled(head, ()), _unpickled(head, ())
        if not system.get("little_endian", True):
            raise ValueError("its byte order is not little")
        storages: dict[str, Storage] = {}
        content = _unpickled(head, inert, storages)
        place, places = 0, {}
        keys = _unpickled(head, ())
        place = head.tell()
        for key in keys:
            whole.seek(place)
            elements = int.from_bytes(whole.read(8), "little")
            if key not in storages or elements != storages[key].elements:
                raise ValueError(f"storage {key} of {elements} numbers is not its tensors'")
            places[key] = place + 8
            place += 8 + elements * storages[key].dtype.itemsize
        if place > size:
            raise ValueError(f"it ends after {size} bytes of {place}")

        def values(storage: Storage) -> bytes:
            whole.seek(places[storage.key])
            return whole.read(storage.elements * storage.dtype.itemsize)

        return _resolved(choose(content), values, size)


def _unpickled(
    content: BytesIO, inert: Collection[str], storages: dict[str, Storage] | None = None
) -> Any:
    """The next pickle, when no length or place in it is beyond it: they are believed when it is
    run. The stream is left at its end."""
    start = content.tell()
    operations = list(pickletools.genops(content))
    end = content.tell()
    for code, value, _ in operations:
        if (code.name.endswith("PUT") or code.name == "FRAME") and (value or 0) > end - start:
            raise ValueError(f"{code.name} of {value} in a pickle of {end - start} bytes")
    content.seek(start)
    found = _Reader(BytesIO(content.read(end - start)), inert, {} if storages is None else storages)
    return found.load()


class _Reader(pickle.Unpickler):
    def __init__(self, content: BytesIO, inert: Collection[str], storages: dict[str, Storage]):
        super().__init__(content)
        self.inert, self.storages = inert, storages

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """The few names that a tensor is made of; fresh functions, which a pickle may spoil."""
        match module_name, global_name:
            case (("torch" | "torch.storage"), name) if name in STORAGES:
                return name
            case "torch", name if name in DTYPES:
                return DTYPES[name]
            case "torch._utils", ("_rebuild_tensor" | "_rebuild_tensor_v2"):
                return lambda *given: _tensor(*given[:4])
            case "torch._utils", "_rebuild_tensor_v3":
                return lambda *given: _tensor(*given[:4], dtype=given[6])
            case "torch._utils", ("_rebuild_parameter" | "_rebuild_parameter_with_state"):
                return lambda tensor, *_: tensor
            case "torch.nn.modules.container", "ParameterDict":
                return type("ParameterDict", (Inert,), {})
            case "torch", "Size":
                return lambda shape: tuple(shape)
            case "collections", "OrderedDict":
                return OrderedDict
        if self._is_inert(module_name, global_name):
            return type(global_name, (Inert,), {})
        raise UsageError(
            f"its pickle asks for {module_name}.{global_name}, which is no part of a tensor and is "
            "not run; take the .safetensors file of the same weights."
        )

    def _is_inert(self, module: str, name: str) -> bool:
        if module in ("builtins", "__builtin__"):
            return name in HARMLESS
        if module in ("collections", "typing"):
            return bool(self.inert) and name in ("defaultdict", "Any")
        return module.partition(".")[0] in self.inert

    def persistent_load(self, pid: Any, /) -> Storage:
        """A storage: ("storage", type, key, device, elements), before zip archives and a view."""
        kind, storage, key, _, elements, *view = pid
        if kind != "storage" or view not in ([], [None]):
            raise ValueError(f"a reference to {kind!r}")
        if not (type(elements) is int and elements >= 0):
            raise ValueError(f"storage {key} of {elements} numbers")
        found = Storage(STORAGES[storage], str(key), elements)
        if self.storages.setdefault(found.key, found) != found:
            raise ValueError(f"storage {key} is of two kinds")
        return found


def _tensor(
    storage: Storage,
    offset: int,
    shape: Sequence[int],
    strides: Sequence[int],
    dtype: np.dtype | None = None,
) -> StoredTensor:
    """A view of a storage, when it is within it."""
    size = dtype.itemsize if dtype else storage.dtype.itemsize
    count = storage.elements * storage.dtype.itemsize // size
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    inside = min(offset, *shape, *strides, last) >= 0 and last < count
    if not inside or prod(shape) > count:
        raise ValueError(f"a tensor {tuple(shape)} reaches beyond its {count} numbers")
    return StoredTensor(storage, offset, tuple(shape), tuple(strides), dtype or storage.dtype)


def _resolved(content: Any, values: Callable[[Storage], bytes], size: int) -> Any:
    """The containers with arrays for the tensors; a container met again is not walked again."""
    read: dict[str, bytes] = {}
    known: dict[int, Any] = {}
    left = REPEATED * size

    def array(tensor: StoredTensor) -> np.ndarray:
        nonlocal left
        left -= prod(tensor.shape) * tensor.dtype.itemsize
        if left < 0:
            raise ValueError(f"its tensors are larger than {REPEATED} times its {size} bytes")
        key = tensor.storage.key
        if key not in read:
            read[key] = values(tensor.storage)
        step = tensor.dtype.itemsize
        flat = np.frombuffer(read[key], tensor.dtype)
        view = np.lib.stride_tricks.as_strided(
            flat[tensor.offset :], tensor.shape, [n * step for n in tensor.strides], writeable=False
        )
        return view if view.flags.c_contiguous else view.copy()

    def walk(item: Any) -> Any:
        if isinstance(item, StoredTensor):
            return array(item)
        if isinstance(item, Inert):
            return walk(item.state)
        if not isinstance(item, dict | list | tuple):
            return item
        if id(item) not in known:
            if isinstance(item, dict):
                known[id(item)] = found = {}
                found.update({key: walk(value) for key, value in item.items()})
            else:
                known[id(item)] = found = []
                found.extend(walk(value) for value in item)
        return known[id(item)]

    return walk(content)
