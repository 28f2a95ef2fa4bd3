"""Rows, lines and names of large sets: found when a set is opened, read when used."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from ctrak_jax.data.pictures import SUFFIXES
from ctrak_jax.errors import UsageError

READ = 1 << 22
"""Bytes of a text looked at a time."""


class ChannelsLast:
    """Mapped latents [N, c, h, w], indexed by row like an array [N, h, w, c].

    Rows are copied out of the file in their own dtype when they are indexed.
    """

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


class Lines:
    """The lines of a UTF-8 file, kept as the places where they end."""

    def __init__(self, file: Path) -> None:
        self._file = file
        size = file.stat().st_size
        self._bytes = np.memmap(file, np.uint8, "r") if size else np.zeros(0, np.uint8)
        # Only \n ends a line: a caption may hold what str.splitlines takes for an end.
        ends = [
            first + np.flatnonzero(self._bytes[first : first + READ] == ord("\n"))
            for first in range(0, size, READ)
        ]
        self._ends = np.concatenate(ends) if ends else np.zeros(0, np.int64)
        if size and self._bytes[-1] != ord("\n"):
            self._ends = np.append(self._ends, size)

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        first = int(self._ends[row - 1]) + 1 if row else 0
        try:
            return bytes(self._bytes[first : self._ends[row]]).decode().rstrip("\r")
        except UnicodeDecodeError as error:
            raise UsageError(f"{self._file}:{row + 1}: not UTF-8 text ({error}).") from None


class PictureFiles(Sequence[Path]):
    """The pictures of a folder by name; a million names take their bytes, not a million objects."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with os.scandir(folder) as entries:
            names = np.array(
                [
                    os.fsencode(entry.name)
                    for entry in entries
                    if entry.name.lower().endswith(SUFFIXES) and entry.is_file()
                ],
                dtype=np.bytes_,
            )
        self._names = np.sort(names)

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | Sequence[Path]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._folder / os.fsdecode(bytes(self._names[index]))
