"""Small folders of pictures and tables."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

COUNT = 60
STYLE = ["voxel", "micah", "pixel"] * 20
HAIR = ["red"] * 30 + ["blue"] * 30


def folder(
    path: Path,
    attributes: Mapping[str, Sequence[str]] | None = None,
    *,
    count: int = COUNT,
    size: tuple[int, int] = (16, 16),
    mode: str = "RGB",
    captions: Sequence[str] = (),
) -> Path:
    """A folder of noise with a table and captions, where given."""
    (path / "images").mkdir(parents=True)
    for i in range(count):
        shape = (size[1], size[0], 3)
        noise = np.random.default_rng(i).integers(0, 256, shape, np.uint8)
        Image.fromarray(noise).convert(mode).save(path / "images" / f"{i:04d}.png")
    label(path, attributes, captions)
    return path


def array(path: Path, shape: tuple[int, ...], attributes: Mapping[str, Sequence[str]]) -> Path:
    """A folder with images.npy."""
    path.mkdir(parents=True)
    np.save(path / "images.npy", np.zeros((*shape, 3), np.uint8))
    label(path, attributes)
    return path


def label(
    path: Path, attributes: Mapping[str, Sequence[str]] | None, captions: Sequence[str] = ()
) -> None:
    if attributes is not None:
        with (path / "attributes.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["index", *attributes])
            rows = zip(*attributes.values(), strict=True)
            writer.writerows([i, *values] for i, values in enumerate(rows))
    if captions:
        (path / "prompts.txt").write_text("".join(f"{line}\n" for line in captions))
