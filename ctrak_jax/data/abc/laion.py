"""LAION's rows: latents and text embeddings by number."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctrak_jax.data.abc.tasks import damaged
from ctrak_jax.data.pictures import SUFFIXES
from ctrak_jax.data.reading import open_npy, read_error
from ctrak_jax.errors import UsageError
from ctrak_jax.log import logger

LATENT = (4, 64, 64)
"""A latent on disk; rows are given as [64, 64, 4]."""
TEXT = (77, 768)
LATENTS, EMBEDDINGS = "laion_latents.npy", "laion_text_embeddings.npy"
SAMPLED = 16
"""Rows by which the dtype of numbers without a header is told."""
MAGNITUDE = 100.0
"""No latent and no text embedding is as large; float32 that is read as float16 is."""


class ChannelsLast:
    """Mapped latents [N, c, h, w], indexed by row like an array [N, h, w, c]; gives copies."""

    def __init__(self, stored: np.ndarray) -> None:
        count, channels, height, width = stored.shape
        self._stored = stored
        self.shape = (count, height, width, channels)
        self.dtype = stored.dtype
        self.ndim = 4

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | np.integer | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Latents [..., h, w, c] of a row, a slice, or an array of rows or of flags."""
        if isinstance(key, tuple):
            raise IndexError("latents are indexed by row alone; index the result further.")
        rows = np.asarray(self._stored[np.asarray(key) if isinstance(key, list) else key])
        return np.moveaxis(rows, -3, -1).copy()  # C-contiguous: moveaxis alone gives a view


@dataclass(frozen=True, kw_only=True)
class Laion:
    """The N candidates that every task shares, by row."""

    latents: ChannelsLast
    flipped: ChannelsLast
    """Latents of the mirrored pictures, in the same order."""
    text: np.ndarray
    """Embeddings [N, 77, 768], mapped; a picture and its mirror image share one."""

    def __len__(self) -> int:
        return len(self.latents)


def read_laion(path: Path, latent: tuple[int, ...], embedding: tuple[int, ...]) -> Laion:
    """Map the arrays; pictures and captions, which nothing is computed from, are counted."""
    latents = _array(path / LATENTS, latent, "2N")
    text = _array(path / EMBEDDINGS, embedding, "N")
    count = len(text)
    if not count:
        raise damaged(f"{path / EMBEDDINGS}: holds no row")
    if len(latents) != 2 * count:
        raise damaged(
            f"{path / LATENTS}: {len(latents)} latents, expected {2 * count}: a plain "
            f"and a flipped one for each of the {count} rows of laion_text_embeddings.npy"
        )
    captions, images = (path / "laion_subset" / name for name in ("captions.txt", "images"))
    if not captions.is_file():
        raise damaged(f"{captions}: no such file")
    if not images.is_dir():
        raise damaged(f"{images}: no such folder")
    with captions.open("rb") as lines:
        line_count = sum(1 for _ in lines)
    with os.scandir(images) as files:
        picture_count = sum(f.name.lower().endswith(SUFFIXES) and f.is_file() for f in files)
    for place, found, what in (
        (captions, line_count, "lines"),
        (images, picture_count, "pictures"),
    ):
        if found != count:
            logger.warning(
                f"{place}: {found} {what}, {count} rows in {EMBEDDINGS}; rows go by number"
            )
    return Laion(
        latents=ChannelsLast(latents[:count]), flipped=ChannelsLast(latents[count:]), text=text
    )


def _array(file: Path, row: tuple[int, ...], count: str) -> np.ndarray:
    """A mapped array of ``count`` such rows."""
    if not file.is_file():
        raise damaged(f"{file}: no such file")
    array = _without_header(file, row)
    if array is None:
        array = open_npy(file, "; unpack the AbC files again")
    if array.shape[1:] != row:
        expected = ", ".join([count, *map(str, row)])
        raise damaged(f"{file}: shape {array.shape}, expected [{expected}]")
    if array.dtype not in (np.float16, np.float32):
        raise UsageError(
            f"{file}: dtype {array.dtype}, expected float16 or float32; convert it or unpack the "
            "AbC files again."
        )
    return array


def _without_header(file: Path, row: tuple[int, ...]) -> np.ndarray | None:
    """Whole rows of bare numbers, or None. As float16 every second number of float32 is noise, or
    zero."""
    try:
        with file.open("rb") as content:
            start = content.read(len(np.lib.format.MAGIC_PREFIX))
    except OSError as error:
        raise read_error(file, error) from None
    if start == np.lib.format.MAGIC_PREFIX:
        return None
    for dtype in (np.float16, np.float32):
        count, rest = divmod(file.stat().st_size, math.prod(row) * np.dtype(dtype).itemsize)
        if rest or not count:
            continue
        mapped = np.memmap(file, dtype, "r", shape=(count, *row))
        sample = mapped[np.unique(np.linspace(0, count - 1, SAMPLED).astype(int))]
        plausible = np.isfinite(sample).all() and np.abs(sample).max() < MAGNITUDE
        if plausible and (sample == 0).mean() < 0.4:
            return mapped
    return None
