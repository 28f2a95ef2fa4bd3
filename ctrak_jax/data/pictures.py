"""Encoded pictures (PNG, JPEG, WebP) read and decoded by row, when used.

Opening a set reads names, places and headers; pixels are decoded for the rows that a batch wants
and not kept. Where that is too slow for training, ``ctrak data`` decodes a set once for all.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ctrak_jax.errors import UsageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""Names of pictures end so, in any case."""


@runtime_checkable
class EncodedPictures(Protocol):
    """Encoded pictures by row; safe to read from several threads."""

    def __len__(self) -> int: ...

    def name(self, row: int) -> str:
        """What an error message calls the picture."""
        ...

    def read(self, row: int) -> bytes: ...


@dataclass(frozen=True)
class Files:
    """Pictures that are files of their own."""

    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, row: int) -> str:
        return str(self.paths[row])

    def read(self, row: int) -> bytes:
        try:
            return self.paths[row].read_bytes()
        except OSError as error:
            raise UsageError(f"{self.paths[row]}: {error.strerror}.") from None


class Pictures:
    """Pictures by row; indexed like an array uint8 [N, side, side, 3] or [N, H, W, 3].

    Args:
        encoded: where they are.
        side: each picture is cropped to its centred square and resized to this side (antialiased);
            without it they are taken as they are.

    Raises:
        UsageError: there is none; one is unreadable, or, without ``side``, of another size than the
            first. Without ``side`` headers, and in PNG checksums, are read at once; what is wrong
            with pixels beyond that shows when they are indexed.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, encoded: EncodedPictures, *, side: int | None = None) -> None:
        self._encoded, self._side = encoded, side
        width, height = (side, side) if side else self._common_size()
        self.shape = (len(encoded), height, width, 3)

    def __len__(self) -> int:
        return len(self._encoded)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Pictures [..., H, W, 3] of a row, a slice, or an array of rows or of flags."""
        rows = np.arange(len(self))[key]
        images = np.empty((rows.size, *self.shape[1:]), np.uint8)
        for place in np.argsort(rows, axis=None):  # ascending: every row group is read once
            images[place] = self._decode(int(rows.flat[place]))
        return images.reshape(*rows.shape, *self.shape[1:])

    def content(self) -> Iterator[bytes]:
        """What the pixels depend on, piece by piece: the side, then every encoded picture."""
        yield repr(self._side).encode()
        for row in range(len(self)):
            yield self._encoded.read(row)

    def _common_size(self) -> tuple[int, int]:
        first = self._size(0)
        for row in range(1, len(self)):
            size = self._size(row)
            if size != first:
                raise UsageError(
                    f"{self._encoded.name(row)}: is {size[0]} x {size[1]} pixels, the first image "
                    f"is {first[0]} x {first[1]}; all images must have one size, or be cropped and "
                    "resized by data.resize: true and data.image_size."
                )
        return first

    def _size(self, row: int) -> tuple[int, int]:
        """Width and height, after a look at what can be checked without decoding."""
        picture = self._open(row)
        size = picture.size
        try:
            picture.verify()
        except (OSError, ValueError, SyntaxError) as error:
            raise self._unreadable(row, error) from None
        return size

    def _open(self, row: int) -> Image.Image:
        """The picture with its header read."""
        try:
            return Image.open(io.BytesIO(self._encoded.read(row)))
        except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError) as error:
            raise self._unreadable(row, error) from None

    def _decode(self, row: int) -> np.ndarray:
        picture = self._open(row)
        try:
            if self._side:
                # A JPEG is decoded at the nearest eighth that is at least twice the side.
                picture.draft("RGB", (2 * self._side, 2 * self._side))
                fitted = ImageOps.fit(
                    picture.convert("RGB"),
                    (self._side, self._side),
                    Image.Resampling.LANCZOS,
                )
                return np.asarray(fitted)
            return np.asarray(picture.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            raise self._unreadable(row, error) from None

    def _unreadable(self, row: int, error: Exception) -> UsageError:
        reason = str(error).partition("\n")[0]
        return UsageError(f"{self._encoded.name(row)}: not a readable image ({reason}).")
