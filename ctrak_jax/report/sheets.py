"""Sheets of pictures: the answer to one prompt, and what the models make that were trained without
some images."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ctrak_jax.report.contact import GAP, INK, LABEL, MARGIN, PAPER, file_name, picture_scale

CAPTION = 22
"""Pixels of a line of text."""
ACROSS = 12
"""Pictures of a row that a model made."""


def write_answer(
    path: Path, picture: np.ndarray, prompt: str, tops: Mapping[str, Sequence[np.ndarray]]
) -> None:
    """What was asked about, uint8 [H, W, 3], and a row per concept: its training images, best
    first."""
    width, height = tile = _tile(picture)
    across = 1 + max(len(found) for found in tops.values())
    size = (
        3 * MARGIN + across * (width + GAP),
        2 * MARGIN + CAPTION + len(tops) * (CAPTION + height + GAP),
    )
    sheet = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    draw.text((MARGIN, MARGIN), prompt, fill=INK, font=font)
    top, left = MARGIN + CAPTION, 2 * MARGIN + width + GAP
    _paste(sheet, [picture], tile, MARGIN, top + CAPTION)
    for concept, found in tops.items():
        draw.text((left, top + 2), f"who taught “{concept}”?", fill=INK, font=font)
        _paste(sheet, found, tile, left, top + CAPTION)
        top += CAPTION + height + GAP
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def write_counterfactual_sheet(folder: Path, name: str, drawn: Mapping[str, np.ndarray]) -> None:
    """A row per model: what it was trained without, in words, and its images uint8 [n, H, W, 3]."""
    width, height = tile = _tile(next(iter(drawn.values()))[0])
    size = (
        2 * MARGIN + LABEL + ACROSS * (width + GAP) - GAP,
        2 * MARGIN + len(drawn) * (height + GAP) - GAP,
    )
    sheet = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for row, (title, images) in enumerate(drawn.items()):
        top = MARGIN + row * (height + GAP)
        draw.text((MARGIN, top), title.replace(" ", "\n", 1), fill=INK, font=font)
        _paste(sheet, images[:ACROSS], tile, MARGIN + LABEL, top)
    folder.mkdir(parents=True, exist_ok=True)
    sheet.save(folder / f"{file_name(name)}.png")


def _tile(picture: np.ndarray) -> tuple[int, int]:
    """(width, height) of a picture, enlarged."""
    height, width = picture.shape[:2]
    scale = picture_scale(height, width)
    return scale * width, scale * height


def _paste(
    sheet: Image.Image, images: Iterable[np.ndarray], tile: tuple[int, int], left: int, top: int
) -> None:
    """Images side by side, each in a tile."""
    for column, image in enumerate(images):
        enlarged = Image.fromarray(image).resize(tile, Image.Resampling.NEAREST)
        sheet.paste(enlarged, (left + column * (tile[0] + GAP), top))
