"""Writing the folder format."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ctrak_jax.data.raw import RawImages

BLOCK = 1024
"""Images copied at a time."""


def write_folder(raw: RawImages, path: Path) -> None:
    """Write a data set in the folder format (images.npy); pictures are decoded block by block."""
    path.mkdir(parents=True, exist_ok=True)
    part = path / "images.npy.part"
    images = np.lib.format.open_memmap(part, "w+", np.uint8, raw.images.shape)
    for first in range(0, len(images), BLOCK):
        images[first : first + BLOCK] = raw.images[first : first + BLOCK]
    images.flush()
    with (path / "attributes.csv").open("w", newline="", encoding="utf-8") as file:
        file.write(_row(["index", *raw.attributes]))
        columns = zip(*raw.attributes.values(), strict=True)
        file.writelines(_row([str(i), *values]) for i, values in enumerate(columns))
    if raw.prompts:
        lines = "".join(f"{line}\n" for line in raw.prompts)
        (path / "prompts.txt").write_text(lines, encoding="utf-8")
    else:
        (path / "prompts.txt").unlink(missing_ok=True)
    (path / "meta.json").write_text(json.dumps({"name": raw.name, **raw.meta}, indent=2) + "\n")
    part.replace(path / "images.npy")


def _row(values: Sequence[str]) -> str:
    return ",".join(map(_cell, values)) + "\r\n"


def _cell(value: str) -> str:
    """A value in quotation marks where it would not be read back without them."""
    plain = value == value.strip() and not set(value) & set(',"\r\n')
    return value if plain else '"' + value.replace('"', '""') + '"'
