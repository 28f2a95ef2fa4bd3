"""Writing the folder format."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ctrak_jax.data.folder.columns import as_text
from ctrak_jax.data.folder.tables import MISSING
from ctrak_jax.data.raw import RawImages
from ctrak_jax.errors import UsageError
from ctrak_jax.store.files import write_atomically

BLOCK = 1024
"""Images copied at a time."""


def write_folder(raw: RawImages, path: Path) -> None:
    """Write a data set in the folder format (images.npy); pictures are decoded block by block.

    Raises:
        UsageError: a value is empty, which would be read back as missing.
    """
    for name, values in raw.attributes.items():
        if None in map(as_text, values):
            row = [as_text(value) for value in values].index(None)
            raise UsageError(f"{path}: image {row} has an empty value of {name!r}; give it one.")
    path.mkdir(parents=True, exist_ok=True)
    part = path / "images.npy.part"
    images = np.lib.format.open_memmap(part, "w+", np.uint8, raw.images.shape)
    for first in range(0, len(images), BLOCK):
        images[first : first + BLOCK] = raw.images[first : first + BLOCK]
    images.flush()
    columns = enumerate(zip(*raw.attributes.values(), strict=True))
    rows = [["index", *raw.attributes], *([str(row), *values] for row, values in columns)]
    _write(path / "attributes.csv", map(_row, rows) if raw.attributes else ())
    _write(path / "prompts.txt", (f"{line}\n" for line in raw.prompts))
    _write(path / "meta.json", [json.dumps({"name": raw.name, **raw.meta}, indent=2) + "\n"])
    part.replace(path / "images.npy")


def _write(file: Path, lines: Iterable[str]) -> None:
    """Write a file of lines; without any there is none."""
    if text := "".join(lines):
        write_atomically(file, text)
    else:
        file.unlink(missing_ok=True)


def _row(values: Sequence[str]) -> str:
    return ",".join(map(_cell, values)) + "\r\n"


def _cell(value: str) -> str:
    """A value in quotation marks where it would not be read back without them."""
    plain = value == value.strip() and value not in MISSING and not set(value) & set(',"\r\n')
    return value if plain else '"' + value.replace('"', '""') + '"'
