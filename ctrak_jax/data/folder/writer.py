"""Writing the folder format."""

import csv
import json
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
        writer = csv.writer(file)
        writer.writerow(["index", *raw.attributes])
        columns = zip(*raw.attributes.values(), strict=True)
        writer.writerows([i, *values] for i, values in enumerate(columns))
    if raw.prompts:
        lines = "".join(f"{line}\n" for line in raw.prompts)
        (path / "prompts.txt").write_text(lines, encoding="utf-8")
    else:
        (path / "prompts.txt").unlink(missing_ok=True)
    (path / "meta.json").write_text(json.dumps({"name": raw.name, **raw.meta}, indent=2) + "\n")
    part.replace(path / "images.npy")
