"""Encoded pictures (PNG, JPEG, WebP) read and decoded by row, when used.

Opening a set reads names, places and headers; pixels are decoded for the rows that a batch wants,
and kept where all of them fit in ``KEPT_BYTES``. Where they do not and that is too slow for
training, ``ctrak data`` decodes a set once for all.
"""

import io
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image, ImageOps

from ctrak_jax.errors import UsageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""Names of pictures end so, in any case."""
KEPT_BYTES = 2**29
"""Sets of at most so many bytes of pixels, 170,000 pictures of 32 x 32, are decoded once:
a batch of 128 large pictures can take longer to decode than a training step."""


@runtime_checkable
class EncodedPictures(Protocol):
    """Encoded pictures by row; safe to read from several threads."""

    def __len__(self) -> int: ...

    def name(self, row: int) -> str: ...

    def read(self, row: int) -> bytes: ...


@dataclass(frozen=True)
class Files:
    """Pictures that are files of their own, or members of tars."""

    paths: Sequence[Any]

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

    Each is cropped to its centred square and resized to ``side`` (antialiased). Without ``side``
    they are taken as they are: all must have one size, and headers, and in PNG checksums, are read
    at once. A picture with unreadable pixels is refused when it is indexed.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, encoded: EncodedPictures, *, side: int | None = None) -> None:
        self._encoded, self._side = encoded, side
        width, height = (side, side) if side else self._common_size()
        self.shape = (len(encoded), height, width, 3)
        self._pixels = np.empty(self.shape if math.prod(self.shape) <= KEPT_BYTES else 0, np.uint8)
        self._known = np.zeros(len(self._pixels), bool)

    def __len__(self) -> int:
        return len(self._encoded)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Pictures [..., H, W, 3] of a row, a slice, or an array of rows or of flags."""
        rows = np.arange(len(self))[key]
        images = np.empty((rows.size, *self.shape[1:]), np.uint8)
        for place in np.argsort(rows, axis=None):  # ascending: every row group is read once
            images[place] = self._row(int(rows.flat[place]))
        return images.reshape(*rows.shape, *self.shape[1:])

    def content(self) -> Iterator[bytes]:
        """What the pixels depend on, piece by piece: the side, then every encoded picture."""
        yield repr(self._side).encode()
        for row in range(len(self)):
            yield self._encoded.read(row)

    def sizes(self) -> Counter[tuple[int, int]]:
        """How many pictures have which width and height, by their headers, before any resizing."""
        return Counter(self._size(row) for row in range(len(self)))

    def _row(self, row: int) -> np.ndarray:
        """A picture's pixels; threads that decode one twice write the same."""
        if not len(self._known):
            return self._decode(row)
        if not self._known[row]:
            self._pixels[row] = self._decode(row)
            self._known[row] = True
        return self._pixels[row]

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
        with self._opened(row) as picture:
            size = picture.size
            picture.verify()
        return size

    def _decode(self, row: int) -> np.ndarray:
        with self._opened(row) as picture:
            if not self._side:
                return np.asarray(picture.convert("RGB"))
            # A JPEG is decoded at the nearest eighth that is at least twice the side.
            picture.draft("RGB", (2 * self._side, 2 * self._side))
            square = (self._side, self._side)
            return np.asarray(
                ImageOps.fit(picture.convert("RGB"), square, Image.Resampling.LANCZOS)
            )

    @contextmanager
    def _opened(self, row: int) -> Iterator[Image.Image]:
        """A picture with its header read; what is wrong with it, then or later, is one line."""
        try:
            yield Image.open(io.BytesIO(self._encoded.read(row)))
        except (Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
            reason = str(error).partition("\n")[0]
            raise UsageError(
                f"{self._encoded.name(row)}: not a readable image ({reason})."
            ) from None
