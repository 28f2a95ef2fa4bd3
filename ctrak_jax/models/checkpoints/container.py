"""Open a file of weights, told by what it holds and not by its suffix."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import msgpack
import numpy as np
from flax.serialization import msgpack_restore

from ctrak_jax.errors import UsageError
from ctrak_jax.gradient import parameter_paths
from ctrak_jax.models.checkpoints import safe, torch_pickle

LARGEST_INDEX = 2**26
"""Bytes of a list of shards."""
LONGEST_LIST = 64
"""Items of a list in Flax's msgpack: the shape of an array."""
LFS = b"version https://git-lfs"


class Opened(NamedTuple):
    """Arrays by the names in a file, in the dtype they are stored in.

    Attributes:
        file: what was opened, for messages.
        tensors: names of modules joined by dots; by slashes where they are Flax's.
        metadata: texts that a safetensors file has beside its tensors.
        flax: names and layouts are Flax's, not PyTorch's.
    """

    file: Path
    tensors: dict[str, np.ndarray]
    metadata: Mapping[str, str]
    flax: bool = False


def open_file(file: Path) -> Opened:
    """A file of weights, or a JSON list of its shards.

    Raises:
        UsageError: missing, damaged, or no file of weights; one line.
    """
    try:
        return _open(file)
    except UsageError:
        raise
    except Exception as error:  # a damaged file raises many kinds
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UsageError(
            f"{file}: cannot be used ({reason}); fetch the file again, whole."
        ) from None


def _open(file: Path) -> Opened:
    try:
        with file.open("rb") as content:
            start = content.read(64)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror or error}; give a file of weights.") from None
    if start.startswith(LFS):
        raise UsageError(
            f"{file} is a pointer of Git LFS, not the weights; run git lfs pull in its folder."
        )
    if file.suffix == ".json":
        return _open_shards(file)
    if safe.is_safe(start):
        return Opened(file, *safe.read(file))
    if torch_pickle.is_pickled(start) and file.suffix != ".msgpack":
        found = torch_pickle.read_archive(file, inert=torch_pickle.TRAINING, choose=_state)
        return Opened(file, _tensors(found), {})
    if file.suffix == ".msgpack":
        content = file.read_bytes()
        _require_short_lists(content)
        tree = msgpack_restore(content)
        arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
        return Opened(file, dict(zip(parameter_paths(tree), arrays, strict=True)), {}, flax=True)
    raise UsageError(
        f"{file} is no file of weights: expected safetensors, what torch.save writes, or Flax's "
        ".msgpack; fetch the file again."
    )


def _require_short_lists(content: bytes) -> None:
    """Refuse lists that a file of Flax has not: room for as many items as a list claims, up to the
    length of the file, would be taken at once, for every list within a list again."""

    def array(_code: int, packed: bytes) -> None:
        msgpack.unpackb(packed, raw=True, max_array_len=LONGEST_LIST)

    msgpack.unpackb(content, ext_hook=array, strict_map_key=False, max_array_len=LONGEST_LIST)


def _state(content: Any) -> Any:
    """The weights in what a pickle holds: itself, or what stands beside a trainer's objects."""
    while isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    return content


def _tensors(found: Any) -> dict[str, np.ndarray]:
    if not isinstance(found, dict):
        raise ValueError(f"it holds a {type(found).__name__}, expected tensors by their names")
    odd = [
        name
        for name, value in found.items()
        if not (isinstance(name, str) and isinstance(value, np.ndarray))
    ]
    if odd:
        what = type(found[odd[0]]).__name__
        raise ValueError(f"its {odd[0]!r} is {what}, expected tensors by their names")
    return found


def _open_shards(index: Path) -> Opened:
    """The shards that a list names. They lie beside it; each has the tensors the list says."""
    if index.stat().st_size > LARGEST_INDEX:
        raise ValueError(f"a list of shards larger than {LARGEST_INDEX} bytes")
    places = json.loads(index.read_text(encoding="utf-8")).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ValueError("it has no weight_map of tensors to files")
    tensors: dict[str, np.ndarray] = {}
    for name in sorted(set(map(str, places.values()))):
        if Path(name).name != name or name.endswith(".json") or "\\" in name:
            raise ValueError(f"its shard {name!r} is no file beside it")
        shard = index.with_name(name)
        if not shard.is_file():
            raise UsageError(f"{shard} is missing, which {index.name} names; fetch it, too.")
        found = open_file(shard).tensors
        wanted = {tensor for tensor, place in places.items() if place == name}
        if found.keys() != wanted:
            odd = sorted(found.keys() ^ wanted)[0]
            where = "lacks" if odd in wanted else "also has"
            raise ValueError(f"{name} {where} {odd!r}, the list says otherwise")
        tensors |= found
    return Opened(index, tensors, {})
