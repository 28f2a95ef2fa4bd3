"""Exemplars and generated pictures as the published code crops them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ctrak_jax.data.pictures import Files, Pictures


def squares(files: Sequence[Path], side: int) -> np.ndarray:
    """Pictures uint8 [n, side, side, 3]: the shorter side resized to ``side`` (bilinear,
    antialiased), then the centred square.

    Raises:
        UsageError: a picture is missing or unreadable.
    """
    found = np.empty((len(files), side, side, 3), np.uint8)
    for place, file in enumerate(files):
        found[place] = np.asarray(_square(Image.fromarray(Pictures(Files([file]))[0]), side))
    return found


def _square(picture: Image.Image, side: int) -> Image.Image:
    size = [int(side * length / min(picture.size)) for length in picture.size]
    resized = picture.resize((size[0], size[1]), Image.Resampling.BILINEAR)
    left, top = (round((length - side) / 2) for length in size)
    return resized.crop((left, top, left + side, top + side))
