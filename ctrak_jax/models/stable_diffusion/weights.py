"""Weights of one part of a pretrained model: Flax msgpack or PyTorch safetensors, by numpy alone.

PyTorch keeps ``Linear.weight`` as [out, in] and ``Conv2d.weight`` as [out, in, height, width]; flax
has kernels [in, out] and [height, width, in, out]. Numbered modules are ``blocks.0`` there, and
``blocks_0`` or ``blocks/0`` here; attention layers have borne two sets of names.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax.serialization import msgpack_restore
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ctrak_jax.errors import UsageError
from ctrak_jax.gradient import parameter_paths
from ctrak_jax.models.stable_diffusion.config_file import Component
from ctrak_jax.typing import Params, PRNGKey


@runtime_checkable
class _Initialised(Protocol):
    def init(self, key: PRNGKey) -> Params: ...


N = TypeVar("N", bound=_Initialised)


class FileNames(NamedTuple):
    """A part's weight files: the stem of the PyTorch ones, and the Flax one."""

    torch: str
    flax: str


DIFFUSERS = FileNames("diffusion_pytorch_model", "diffusion_flax_model.msgpack")
TRANSFORMERS = FileNames("model", "flax_model.msgpack")

ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}
CONSTANTS = ("position_ids",)
"""Tensors of PyTorch checkpoints that are no parameters."""


def load(folder: Path, names: FileNames, network: N) -> Component[N]:
    """A network with its parameters (float32) out of ``folder``.

    Where there are several files, full precision goes before half, and PyTorch's before Flax's.
    """
    template = jax.eval_shape(network.init, jax.random.key(0))
    file = found_in(folder, names)
    try:
        if file.suffix == ".msgpack":
            found = _by_path(msgpack_restore(file.read_bytes()))
        else:
            found = convert(_read_torch(file), template)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UsageError(
            f"{file}: cannot be used ({reason}); take config.json and weights of one model, whole."
        ) from None
    return Component(network, _fit(file, found, template))


def found_in(folder: Path, names: FileNames) -> Path:
    """The file that the weights are read from; of several shards their list."""
    candidates = [
        f"{names.torch}.safetensors",
        f"{names.torch}.safetensors.index.json",
        names.flax,
        f"{names.torch}.fp16.safetensors",
    ]
    for name in candidates:
        if (folder / name).is_file():
            return folder / name
    pickled = sorted(path.name for path in folder.glob("*.bin")) if folder.is_dir() else []
    also = f" ({pickled[0]} is a pickle, which is not read)" if pickled else ""
    raise UsageError(
        f"{folder} has no weights{also}; expected {candidates[0]} or {candidates[2]} there."
    )


def _read_torch(file: Path) -> dict[str, np.ndarray]:
    if file.suffix == ".safetensors":
        return load_file(file)
    shards = sorted(set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values()))
    merged: dict[str, np.ndarray] = {}
    for shard in shards:
        merged |= load_file(file.with_name(shard))
    return merged


def _by_path(tree: Params) -> dict[str, Any]:
    return dict(zip(parameter_paths(tree), jax.tree.leaves(tree), strict=True))


def _plain(module: str) -> str:
    """A module's name in the one spelling that PyTorch's and flax's are compared in."""
    name = re.sub(r"[._](\d+)(?=\.|$)", r".\1", module)
    for spelling, common in ATTENTION.items():
        name = re.sub(rf"\.{re.escape(spelling)}$", f".{common}", name)
    return name


def _torch_names(template: Params) -> dict[str, str]:
    """The PyTorch name of every parameter (in the spelling of :func:`_plain`) -> its path."""
    names = {}
    for path in parameter_paths(template):
        module, _, leaf = path.rpartition("/")
        names[f"{_plain(module.replace('/', '.'))}.{LEAVES.get(leaf, leaf)}"] = path
    return names


def convert(tensors: Mapping[str, np.ndarray], template: Params) -> dict[str, np.ndarray]:
    """PyTorch tensors by name -> parameters (or their gradients) by path, in flax's layouts."""
    paths, found = _torch_names(template), {}
    for name, value in tensors.items():
        module, _, leaf = name.rpartition(".")
        if leaf in CONSTANTS:
            continue
        path = paths.get(f"{_plain(module)}.{leaf}")
        if path is None:
            raise ValueError(f"tensor {name!r} is not in the network that config.json describes")
        if path.endswith("/kernel"):
            value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
        found[path] = value
    return found


def _fit(file: Path, found: Mapping[str, Any], template: Params) -> Params:
    wanted = _by_path(template)
    for path in sorted(found.keys() | wanted.keys()):
        here = found[path].shape if path in found else "missing"
        there = wanted[path].shape if path in wanted else "no such parameter"
        if here != there:
            raise UsageError(
                f"{file}: parameter {path} is {here}, config.json describes {there}; use the "
                "config.json and the weights of one model."
            )
    leaves = [jnp.asarray(np.asarray(found[path], np.float32)) for path in wanted]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)
