"""The encoded data set on disk: latents and text embeddings, in the layout of the AbC benchmark.

One row per image of the data set, by dataset index::

    latents.npy            [N or 2N, c, h, w]: all images, then all of them mirrored
    text_embeddings.npy    [N, token, width]
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.store.files import blocks_digest

LATENTS, TEXT = "latents.npy", "text_embeddings.npy"


class Encoded(NamedTuple):
    """The two arrays, mapped."""

    latents: np.ndarray
    text: np.ndarray


def has_arrays(path: Path | None) -> bool:
    """Does the data set folder hold the arrays already?

    Raises:
        UsageError: it holds one of them.
    """
    if path is None:
        return False
    there = [(path / name).exists() for name in (LATENTS, TEXT)]
    if any(there) and not all(there):
        raise UsageError(
            f"{path} holds only one of {LATENTS} and {TEXT}; give both, or neither to have them "
            "made by `ctrak encode`."
        )
    return all(there)


def read(folder: Path, count: int, latent: tuple[int, ...], text: tuple[int, ...]) -> Encoded:
    """Open the two arrays of a folder, mapped.

    Args:
        count: images of the data set.
        latent: the network's latents [h, w, c].
        text: its text embeddings [token, width].

    Raises:
        StoreError: missing, unreadable or of another shape.
    """
    height, width, channels = latent
    wanted = {
        LATENTS: [(n, channels, height, width) for n in (count, 2 * count)],
        TEXT: [(count, *text)],
    }
    found = []
    for name, shapes in wanted.items():
        file = folder / name
        try:
            array = np.lib.format.open_memmap(file, mode="r")
        except FileNotFoundError:
            raise _missing(file) from None
        except (OSError, ValueError) as error:
            raise StoreError(f"{file}: not a readable .npy file ({error}).") from None
        if array.shape not in shapes or array.dtype not in (np.float16, np.float32):
            raise StoreError(
                f"{file}: {array.dtype} {array.shape}, expected float16 or float32 "
                f"{' or '.join(map(str, shapes))} for {count} images and this model; encode them "
                "with it."
            )
        found.append(array)
    return Encoded(*found)


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
