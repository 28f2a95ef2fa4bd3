"""LoRA files of diffusers, peft and kohya, as adapters on the layers of a model.

For a weight W [out, in] a file has A [r, in] and B [out, r]: W + s (alpha / r) B A, where s is the
scale it is used with. Every tensor must find its layer: none is passed over.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from ctrak_jax.errors import UsageError
from ctrak_jax.log import logger
from ctrak_jax.models.checkpoints import Opened, open_file
from ctrak_jax.models.checkpoints.config_file import read_config
from ctrak_jax.models.lora import factors, spellings
from ctrak_jax.models.lora.layers import LayerAdapter, adapter_names
from ctrak_jax.models.lora.spellings import Net, Role
from ctrak_jax.typing import Array, Params

PEFT = ("adapter_model.safetensors", "adapter_model.bin")
DIFFUSERS = ("pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin")

MATRICES: tuple[Role, Role] = ("down", "up")


class LoraFile(NamedTuple):
    """A file or folder, and the scale that it is used with."""

    path: Path
    scale: float = 1.0


class Loras(NamedTuple):
    """Adapters of the denoiser and of the text encoder, and their matrices by path."""

    unet: tuple[LayerAdapter, ...]
    text: tuple[LayerAdapter, ...]
    matrices: Mapping[Net, Mapping[str, Array]]


class Pair(NamedTuple):
    """One layer's tensors: their names in the file, and the values."""

    names: dict[Role, str]
    values: dict[Role, np.ndarray]


class Networks:
    """The layers of both networks; those of the text encoder are looked up when they are needed."""

    def __init__(self, unet: Params, text: Callable[[], Params]) -> None:
        """
        Args:
            unet: the shapes of the denoiser's parameters.
            text: gives those of the text encoder.
        """
        self._shapes: dict[Net, Callable[[], Params]] = {"unet": lambda: unet, "text": cache(text)}

    @cached_property
    def unet(self) -> spellings.NetworkLayers:
        return spellings.NetworkLayers(self._shapes["unet"](), "unet")

    @cached_property
    def text(self) -> spellings.NetworkLayers:
        return spellings.NetworkLayers(self._shapes["text"](), "text")

    def kernel(self, net: Net, layer: str) -> tuple[int, ...]:
        """The shape of a layer's kernel."""
        leaves: dict[str, Any] = flatten_dict(self._shapes[net](), sep="/")
        return leaves[f"{layer}/kernel"].shape

    def find(self, net: Net | None, module: str) -> tuple[Net, str] | None:
        """The network and the path of a layer."""
        for name in ("unet", "text"):
            if net in (None, name):
                layer = (self.unet if name == "unet" else self.text).find(module)
                if layer is not None:
                    return name, layer
        return None


def read_loras(files: Sequence[LoraFile], unet: Params, text: Callable[[], Params] = dict) -> Loras:
    """The adapters of some files; the n-th file's have the number n on their layers.

    Args:
        files: in the order that numbers them.
        unet: the denoiser's parameters, or their shapes.
        text: gives those of the text encoder; by default it takes no adapters.

    Raises:
        UsageError: one is missing, damaged, of another kind, or does not fit the model.
    """
    networks = Networks(unet, text)
    adapters: dict[Net, list[LayerAdapter]] = {"unet": [], "text": []}
    matrices: dict[Net, dict[str, Array]] = {"unet": {}, "text": {}}
    for number, file in enumerate(files, start=1):
        fresh = True
        for net, adapter, a, b in _read(file, number, networks):
            adapters[net].append(adapter)
            names = adapter_names(number)
            values = (jnp.asarray(a), jnp.asarray(b))
            matrices[net] |= {
                f"{adapter.layer}/{name}": value for name, value in zip(names, values, strict=True)
            }
            fresh = fresh and not b.any()
        if fresh:
            logger.warning(
                "%s has not been trained: every B is zero, so it changes nothing, and the "
                "gradients of every A are zero (those of B are not)",
                file.path,
            )
    return Loras(tuple(adapters["unet"]), tuple(adapters["text"]), matrices)


def _read(
    file: LoraFile, number: int, networks: Networks
) -> Iterator[tuple[Net, LayerAdapter, np.ndarray, np.ndarray]]:
    known: set[tuple[Net, str]] = set()
    for opened, peft in _opened(file.path):
        ranks = factors.ranks_in(opened.file, opened.metadata)
        for (net, layer), (module, pair) in _pairs(opened, networks).items():
            if (net, layer) in known:
                raise UsageError(f"{file.path} adapts {module} twice; keep one of the two.")
            known.add((net, layer))
            a, b = _matrices(opened.file, pair, networks.kernel(net, layer))
            rank = b.shape[0]
            said = peft or ranks.get(net)
            factor = said.factor(module, rank) if said else 1.0
            if "alpha" in pair.values:
                alpha = float(pair.values["alpha"].astype(np.float64).reshape(()))
                factor = alpha / rank if alpha else 1.0
            if not np.isfinite(factor):
                raise UsageError(f"{opened.file}: the alpha of {module} is not finite; train anew.")
            yield net, LayerAdapter(layer, number, a.shape, file.scale * factor), a, b


def _opened(path: Path) -> Iterator[tuple[Opened, factors.Ranks | None]]:
    """The files of a LoRA, each with the settings of peft beside it."""
    for file in _files(path):
        settings = file.with_name("adapter_config.json")
        peft = file.name in PEFT and settings.is_file()
        if file.name in PEFT and not peft:
            raise UsageError(f"{settings} is missing, which has the alpha of {file.name}.")
        yield open_file(file), factors.ranks_of(settings, read_config(settings)) if peft else None


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UsageError(f"model.lora: {path}: no such file or folder.")
    found = [file for folder in (path, *sorted(path.iterdir())) if (file := _peft_in(folder))]
    whole = [path / name for name in DIFFUSERS if (path / name).is_file()]
    if found and whole:
        raise UsageError(
            f"model.lora: {path} has {whole[0].name} and {found[0].relative_to(path)}; give the "
            "path of one file, or keep one of the two."
        )
    if found or whole:
        return found or whole[:1]
    others = [file for file in sorted(path.iterdir()) if file.suffix in (".safetensors", ".bin")]
    if len(others) == 1:
        return others
    what = ", ".join(file.name for file in others) or "no file of weights"
    raise UsageError(
        f"model.lora: {path} has {what}; expected {DIFFUSERS[0]}, {PEFT[0]} with its "
        "adapter_config.json, or the path of one file."
    )


def _peft_in(folder: Path) -> Path | None:
    """The file of peft in a folder; of two forms the first."""
    return next((folder / name for name in PEFT if (folder / name).is_file()), None)


def _pairs(opened: Opened, networks: Networks) -> dict[tuple[Net, str], tuple[str, Pair]]:
    """The tensors of a file by the layer they are of: (network, path) -> (module, tensors)."""
    found: dict[tuple[Net, str], tuple[str, Pair]] = {}
    for name, value in opened.tensors.items():
        said = spellings.spelled(name)
        place = said and networks.find(said.net, said.module)
        if said is None or place is None:
            raise UsageError(_unplaced(opened, name, networks))
        _, pair = found.setdefault(place, (said.module, Pair({}, {})))
        if said.role in pair.names:
            raise UsageError(
                f"{opened.file}: {pair.names[said.role]} and {name} are of one layer; keep one."
            )
        pair.names[said.role], pair.values[said.role] = name, value
    for module, pair in found.values():
        if not {"down", "up"} <= pair.names.keys():
            there = ", ".join(pair.names.values())
            raise UsageError(
                f"{opened.file}: of {module} there is only {there}, expected both matrices of a "
                "LoRA; fetch the file again."
            )
    if not found:
        raise UsageError(f"{opened.file} holds no tensors; fetch the file again.")
    return found


def _unplaced(opened: Opened, name: str, networks: Networks) -> str:
    kind = spellings.other_kind(name)
    if kind:
        return (
            f"{opened.file} is {kind} ({name}), which is not supported; use a plain LoRA under the "
            "names of diffusers' layers, or merge it into the model's weights."
        )
    lost = [
        other
        for other in opened.tensors
        if (said := spellings.spelled(other)) is None
        or networks.find(said.net, said.module) is None
    ]
    return (
        f"{opened.file}: {len(lost)} of its {len(opened.tensors)} tensors are of no layer of the "
        f"model, such as {name}; use a LoRA trained for this model."
    )


def _matrices(file: Path, pair: Pair, kernel: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A and B of a layer with this kernel [in, out] or [height, width, in, out], as they are
    computed with: A [in, r] or [height, width, in, r], and B [r, out], float32."""
    down, up = (pair.values[role].astype(np.float32) for role in MATRICES)
    *window, inputs, outputs = kernel
    rank = down.shape[0] if down.ndim else 0
    flat = down.ndim == 2 or down.shape[2:] == (1, 1)
    if flat and down.ndim in (2, 4) and all(side == 1 for side in window):
        down = down.reshape(*down.shape[:2], *window)
    if up.ndim == 4 and up.shape[2:] == (1, 1):
        up = up[:, :, 0, 0]
    shapes = ((down, (rank, inputs, *window)), (up, (outputs, rank)))
    for role, (value, wanted) in zip(MATRICES, shapes, strict=True):
        if value.shape != wanted or not rank:
            raise UsageError(
                f"{file}: {pair.names[role]} is {pair.values[role].shape}, the layer takes "
                f"{wanted}; use a LoRA trained for this model."
            )
        if not np.isfinite(value).all():
            raise UsageError(f"{file}: {pair.names[role]} is not finite; train it anew.")
    a = down.T if not window else down.transpose(2, 3, 1, 0)
    return np.ascontiguousarray(a), np.ascontiguousarray(up.T)
