"""Coordinates of gradients in the order of the published code, and where they are here.

There a gradient is that of every parameter whose name has ``attn2``, end to end in PyTorch's order:
down blocks, up blocks, the middle block; in each to_q, to_k, to_v, to_out and its bias; a weight
[out, in] row by row. Here parameters are in the order of their paths, and a kernel is [in, out].
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from ctrak_jax.errors import UsageError

NAME = re.compile(
    r"(?P<part>down|up|mid)_blocks?_?(?P<block>\d*)/attentions_(?P<attention>\d+)"
    r"/transformer_blocks_(?P<layer>\d+)/attn2/to_(?P<which>q|k|v|out_0)/(?P<kind>kernel|bias)"
)
PARTS, WHICH, KINDS = ("down", "up", "mid"), ("q", "k", "v", "out_0"), ("kernel", "bias")


class Placed(NamedTuple):
    """Coordinates as numbers into the gradients here.

    Attributes:
        here: ascending [proj].
        columns: which of the released coordinates each one is [proj].
    """

    here: Int[np.ndarray, " proj"]
    columns: Int[np.ndarray, " proj"]


def read_coordinates(file: Path) -> dict[str, Int[np.ndarray, " proj"]]:
    """The sets of coordinates in a file, by name.

    Args:
        file: ``.npy`` of one set, ``.npz`` of several: ascending integers, or the steps between
            them as uint16.

    Raises:
        UsageError: missing, unreadable, or something else.
    """
    try:
        found = np.load(file, allow_pickle=False)
        sets = {file.stem: found} if isinstance(found, np.ndarray) else dict(found.items())
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{file}: no file of coordinates can be read ({reason}).") from None
    read = {}
    for name, values in sets.items():
        if values.ndim != 1 or values.dtype.kind not in "iu" or not len(values):
            raise UsageError(
                f"{file}: {name} is {values.dtype} {values.shape}, expected integers in one "
                "dimension: coordinates that ascend, or as uint16 the steps between them."
            )
        wide = values.astype(np.int64)
        read[name] = np.cumsum(wide) if values.dtype == np.uint16 else wide
        if read[name][0] < 0 or (np.diff(read[name]) <= 0).any():
            raise UsageError(f"{file}: the coordinates of {name} do not ascend; give them sorted.")
    return read


def placed(coordinates: Int[np.ndarray, " proj"], shapes: Mapping[str, tuple[int, ...]]) -> Placed:
    """Where released coordinates are among the parameters here.

    Args:
        coordinates: ascending.
        shapes: of the parameters that are differentiated, by path.

    Raises:
        UsageError: other parameters than those of the cross-attention, or fewer.
    """
    sizes = {path: int(np.prod(shape)) for path, shape in shapes.items()}
    total, last = sum(sizes.values()), int(coordinates[-1])
    if last >= total:
        raise UsageError(
            f"coordinate {last} of {total} parameters; give the coordinates of this model's "
            "cross-attention, and gradient.include: ['*attn2*']."
        )
    firsts = dict(zip(sorted(sizes), _starts([sizes[path] for path in sorted(sizes)]), strict=True))
    ordered = sorted(sizes, key=_rank)
    found = np.empty_like(coordinates)
    for path, start in zip(ordered, _starts([sizes[path] for path in ordered]), strict=True):
        met = slice(*np.searchsorted(coordinates, [start, start + sizes[path]]))
        local = coordinates[met] - start
        if len(shapes[path]) == 2:
            rows, columns = shapes[path]
            out, into = np.divmod(local, rows)
            local = into * columns + out
        found[met] = firsts[path] + local
    order = np.argsort(found)
    return Placed(found[order], order)


def _starts(sizes: list[int]) -> list[int]:
    return np.cumsum([0, *sizes[:-1]]).tolist()


def _rank(path: str) -> tuple[int, ...]:
    """A parameter's place in the published order."""
    name = NAME.fullmatch(path)
    if name is None:
        raise UsageError(
            f"gradient.include takes {path}, but the released features are of the cross-attention "
            "alone; use gradient.include: ['*attn2*']."
        )
    numbers = (int(name["block"] or 0), int(name["attention"]), int(name["layer"]))
    return (
        PARTS.index(name["part"]),
        *numbers,
        WHICH.index(name["which"]),
        KINDS.index(name["kind"]),
    )
