"""Thumbnails of bounded size in all: the best form of a ladder that fits a number of bytes."""

import io
from collections.abc import Callable, Sequence
from typing import NamedTuple

from PIL import Image

SAMPLE = 256
"""Pictures that the size of all is estimated from."""


class Form(NamedTuple):
    """How a thumbnail is kept: its longer side in pixels at most, and the quality of WebP (None:
    lossless)."""

    side: int
    quality: int | None


TILES = (Form(96, None), Form(96, 80), Form(64, 75), Form(48, 65), Form(32, 60), Form(24, 50))
"""Forms of training images, best first."""
QUERIES = (Form(192, None), Form(192, 80), Form(128, 75), Form(96, 65), Form(64, 60), Form(48, 50))
"""Forms of query images, best first; ``side`` is their height."""


class FittingForm(NamedTuple):
    """A form, and how many of the pictures fit in it."""

    form: Form
    fitting: int


def choose(
    forms: Sequence[Form], count: int, budget: int, size: Callable[[Form, Sequence[int]], int]
) -> FittingForm:
    """The first form in which ``count`` pictures fit ``budget`` bytes, else the last one and as
    many of them as fit.

    Args:
        forms: best first.
        count: of pictures.
        budget: bytes for all of them.
        size: bytes that some of the pictures take in a form.
    """
    sample = range(0, count, max(1, count // SAMPLE))[:SAMPLE]
    each = 0.0
    for form in forms:
        each = size(form, sample) / max(1, len(sample))
        if each * count <= budget:
            return FittingForm(form, count)
    return FittingForm(forms[-1], int(budget / each))


def webp(picture: Image.Image, form: Form) -> bytes:
    """A picture as WebP."""
    stream = io.BytesIO()
    if form.quality is None:
        picture.save(stream, format="WEBP", lossless=True, quality=60)
    else:
        picture.save(stream, format="WEBP", quality=form.quality)
    return stream.getvalue()


def shrunk(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(width, height) with the longer one at most ``side``."""
    ratio = min(1.0, side / max(size))
    return max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))


def lower(picture: Image.Image, height: int) -> Image.Image:
    """A picture shrunk to a height at most."""
    if picture.height <= height:
        return picture
    width = max(1, round(picture.width * height / picture.height))
    return picture.resize((width, height), Image.Resampling.BOX)


def sheet(pictures: Sequence[Image.Image], tile: tuple[int, int], columns: int) -> Image.Image:
    """Pictures as tiles of one size (width, height), row by row."""
    width, height = tile
    rows = -(-len(pictures) // columns)
    drawn = Image.new("RGB", (columns * width, rows * height))
    for place, picture in enumerate(pictures):
        if picture.size != tile:
            picture = picture.resize(tile, Image.Resampling.BOX)
        drawn.paste(picture, (place % columns * width, place // columns * height))
    return drawn
