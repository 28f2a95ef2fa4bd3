"""Encoded pictures read and decoded by row, when used.

Opening a set reads names, places and headers; pixels are decoded for the rows that a batch wants,
and kept where all of them fit in ``KEPT_BYTES``. Where they do not and that is too slow for
training, ``ctrak data`` decodes a set once for all.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from ctrak_jax.data.decoding import (
    SUFFIXES,
    WHITE,
    Color,
    PictureHeader,
    decoded_picture,
    header_of,
    readable,
    treatment,
)
from ctrak_jax.data.reading import read_error
from ctrak_jax.errors import UsageError

__all__ = ["SUFFIXES", "EncodedPictures", "Files", "PictureRows", "Pictures"]

KEPT_BYTES = 2**29
"""Sets of at most so many bytes of pixels, 170,000 pictures of 32 x 32, are decoded once:
a batch of 128 large pictures can take longer to decode than a training step."""


@runtime_checkable
class EncodedPictures(Protocol):
    """Encoded pictures by row; safe to read from several threads."""

    def __len__(self) -> int: ...

    def name(self, row: int) -> str: ...

    def file(self, row: int) -> Path:
        """The file that holds the picture."""
        ...

    def read(self, row: int) -> bytes: ...


@dataclass(frozen=True)
class Files:
    """Pictures that are files of their own, or members of tars."""

    paths: Sequence[Any]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, row: int) -> str:
        return str(self.paths[row])

    def file(self, row: int) -> Path:
        return getattr(self.paths[row], "tar", self.paths[row])

    def read(self, row: int) -> bytes:
        path = self.paths[row]
        try:
            if isinstance(path, Path):
                with open(path, "rb", buffering=0) as file:  # a third of read_bytes' time
                    return file.read()
            return path.read_bytes()
        except OSError as error:
            raise read_error(path, error) from None


class PictureRows(NamedTuple):
    """Some of the pictures of a set."""

    whole: EncodedPictures
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, row: int) -> str:
        return self.whole.name(self.rows[row])

    def file(self, row: int) -> Path:
        return self.whole.file(self.rows[row])

    def read(self, row: int) -> bytes:
        return self.whole.read(self.rows[row])


class Pictures:
    """Pictures by row; indexed like an array uint8 [N, side, side, 3] or [N, H, W, 3].

    Each is cropped to its centred square and resized to ``side`` (antialiased). Without ``side``
    they are taken as they are: all must have one size, and headers, and in PNG checksums, are read
    at once. A picture with unreadable pixels is refused when it is indexed.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        encoded: EncodedPictures,
        *,
        side: int | None = None,
        background: Color = WHITE,
        headers: Sequence[PictureHeader] | None = None,
    ) -> None:
        """
        Args:
            background: what shows through transparent pixels, red, green and blue.
            headers: of all pictures, where they have been looked at.
        """
        self._encoded, self._side, self._background = encoded, side, background
        if headers is not None:
            self.headers = headers
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

    @cached_property
    def headers(self) -> Sequence[PictureHeader]:
        """What is known of every picture before it is decoded."""
        return [self._header(row) for row in range(len(self))]

    def content(self) -> Iterator[bytes]:
        """What the pixels depend on, piece by piece: the side, then every encoded picture and what
        was done to it."""
        yield repr(self._side).encode()
        for row, header in enumerate(self.headers):
            data = self._encoded.read(row)
            yield data
            if not header.plain:
                with readable(self._encoded.name(row)):
                    yield treatment(data, header, self._background)

    def sizes(self) -> Counter[tuple[int, int]]:
        """How many pictures have which width and height, upright, before any resizing."""
        return Counter(header.size for header in self.headers)

    def _row(self, row: int) -> np.ndarray:
        """A picture's pixels; threads that decode one twice write the same."""
        if not len(self._known):
            return self._decode(row)
        if not self._known[row]:
            self._pixels[row] = self._decode(row)
            self._known[row] = True
        return self._pixels[row]

    def _common_size(self) -> tuple[int, int]:
        first = self.headers[0].size
        for row, header in enumerate(self.headers):
            if header.size != first:
                width, height = header.size
                raise UsageError(
                    f"{self._encoded.name(row)}: is {width} x {height} pixels, the first image "
                    f"is {first[0]} x {first[1]}; all images must have one size, or be cropped and "
                    "resized by data.resize: true and data.image_size."
                )
        return first

    def _header(self, row: int) -> PictureHeader:
        with readable(self._encoded.name(row)):
            return header_of(self._encoded.read(row))

    def _decode(self, row: int) -> np.ndarray:
        with readable(self._encoded.name(row)):
            return decoded_picture(self._encoded.read(row), self._side, self._background)
