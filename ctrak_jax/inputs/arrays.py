"""The encoded data set on disk: latents and text embeddings, in the layout of the AbC benchmark.

One row per image of the data set, by dataset index::

    latents.npy            [N or 2N, c, h, w]: all images, then all of them mirrored
    text_embeddings.npy    [N, token, width]
    text_<name>.npy        [N, ...], of a network that is conditioned on more than that: text_pooled
    classes.npy            [N], numbers, in place of these for a class-conditional network
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from ctrak_jax.attribution import by_name
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.store.files import blocks_digest
from ctrak_jax.typing import Cond

LATENTS, TEXT, CLASSES = "latents.npy", "text_embeddings.npy", "classes.npy"


class Encoded(NamedTuple):
    """The arrays, mapped; ``text`` is a condition whose arrays are [N, ...]."""

    latents: np.ndarray
    text: Cond


def names_of(condition: Cond) -> list[str]:
    """The files of a condition's arrays, in their order."""

    def name(field: str, dtype: np.dtype) -> str:
        if field:
            return f"text_{field}.npy"
        return CLASSES if np.issubdtype(dtype, np.integer) else TEXT

    return [name(field, leaf.dtype) for field, leaf in by_name(condition).items()]


def has_arrays(path: Path | None, condition: Cond) -> bool:
    """Does the data set folder hold the arrays already?

    Raises:
        UsageError: it holds some of them.
    """
    if path is None:
        return False
    names = (LATENTS, *names_of(condition))
    there = [name for name in names if (path / name).exists()]
    if there and len(there) < len(names):
        raise UsageError(
            f"{path} holds only {', '.join(there)} of {', '.join(names)}; give all, or none to "
            "have them made by `ctrak encode`."
        )
    return bool(there)


def read(folder: Path, count: int, latent: tuple[int, ...], condition: Cond) -> Encoded:
    """Open the arrays of a folder, mapped.

    Args:
        count: images of the data set.
        latent: the network's latents [h, w, c].
        condition: the shapes and dtypes of one condition's arrays.

    Raises:
        StoreError: missing, unreadable or of another shape.
    """
    height, width, channels = latent
    shapes = [(n, channels, height, width) for n in (count, 2 * count)]
    leaves, structure = jax.tree.flatten(condition)
    latents = _opened(folder / LATENTS, count, shapes, np.dtype(np.float32))
    text = [
        _opened(folder / name, count, [(count, *leaf.shape)], leaf.dtype)
        for name, leaf in zip(names_of(condition), leaves, strict=True)
    ]
    return Encoded(latents, jax.tree.unflatten(structure, text))


def _opened(
    file: Path, count: int, shapes: Sequence[tuple[int, ...]], dtype: np.dtype
) -> np.ndarray:
    kinds = "float16 or float32" if np.issubdtype(dtype, np.floating) else str(dtype)
    try:
        array = np.lib.format.open_memmap(file, mode="r")
    except FileNotFoundError:
        raise _missing(file) from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{file}: not a readable .npy file ({error}).") from None
    if array.shape not in shapes or str(array.dtype) not in kinds.split(" or "):
        raise StoreError(
            f"{file}: {array.dtype} {array.shape}, expected {kinds} "
            f"{' or '.join(map(str, shapes))} for {count} images and this model; encode them "
            "with it."
        )
    return array


def fingerprint(folder: Path, names: Sequence[str] = (LATENTS, TEXT)) -> str:
    """:func:`ctrak_jax.store.files.blocks_digest` of files of a folder.

    Raises:
        StoreError: one of them is missing.
    """
    files = [folder / name for name in names]
    for file in files:
        if not file.exists():
            raise _missing(file)
    return blocks_digest(files)


def _missing(file: Path) -> StoreError:
    return StoreError(f"{file} is missing; run `ctrak encode` first.")
