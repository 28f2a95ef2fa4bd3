"""Small data sets and pictures that several tests need."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ctrak_jax.data import draw_dataset, read_folder
from ctrak_jax.data.raw import RawImages
from ctrak_jax.errors import UsageError


def drawn(**changes) -> RawImages:
    settings = {
        "size": 40,
        "image_size": 16,
        "shapes": ("triangle", "circle"),
        "colors": ("red", "blue"),
        "seed": 3,
    }
    return draw_dataset(**(settings | changes))


COUNT = 7
STYLES = ("pixel", "voxel")


def picture(i: int, size: tuple[int, int] = (12, 10)) -> np.ndarray:
    """A picture that tells which one it is: noise by number, [height, width, 3]."""
    return np.random.default_rng(i).integers(0, 256, (size[1], size[0], 3), np.uint8)


def encoded(image: np.ndarray, kind: str = "png") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind)
    return stream.getvalue()


PICTURES = np.stack([picture(i) for i in range(COUNT)])
VALUES = [{"style": STYLES[i % 2], "count": i % 3, "real": i > 3} for i in range(COUNT)]
ATTRIBUTES = {
    "style": tuple(str(v["style"]) for v in VALUES),
    "count": tuple(str(v["count"]) for v in VALUES),
    "real": tuple("true" if v["real"] else "false" for v in VALUES),
}


def refused(path: Path, **options) -> str:
    with pytest.raises(UsageError) as caught:
        read_folder(path, **options).images[:]
    message = str(caught.value)
    assert message.splitlines() == [message], "a message is one line"
    return message


def write_attributes(path: Path, raw: RawImages) -> None:
    with (path / "attributes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["index", *raw.attributes])
        writer.writerows(
            [i, *values] for i, values in enumerate(zip(*raw.attributes.values(), strict=True))
        )
