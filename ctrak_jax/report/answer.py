"""The answer to one prompt as a picture: what was asked about, and a row of images per concept."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ctrak_jax.report.contact import GAP, INK, MARGIN, PAPER, picture_scale

CAPTION = 22
"""Pixels of a line of text."""


def write_answer(
    path: Path, picture: np.ndarray, prompt: str, tops: Mapping[str, Sequence[np.ndarray]]
) -> None:
    """Write the sheet.

    Args:
        path: of the PNG.
        picture: what was asked about, uint8 [H, W, 3].
        tops: concept -> its training images, best first.
    """
    height, width = picture.shape[:2]
    scale = picture_scale(height, width)
    tile = (scale * width, scale * height)
    across = 1 + max(len(found) for found in tops.values())
    size = (
        2 * MARGIN + across * (tile[0] + GAP) + MARGIN,
        2 * MARGIN + CAPTION + len(tops) * (CAPTION + tile[1] + GAP),
    )
    sheet = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    draw.text((MARGIN, MARGIN), prompt, fill=INK, font=font)

    def paste(image: np.ndarray, column: int, top: int) -> None:
        enlarged = Image.fromarray(image).resize(tile, Image.Resampling.NEAREST)
        left = MARGIN + column * (tile[0] + GAP) + MARGIN * (column > 0)
        sheet.paste(enlarged, (left, top))

    top = MARGIN + CAPTION
    paste(picture, 0, top + CAPTION)
    for concept, found in tops.items():
        left = MARGIN + tile[0] + GAP + MARGIN
        draw.text((left, top + 2), f"who taught “{concept}”?", fill=INK, font=font)
        for rank, image in enumerate(found, 1):
            paste(image, rank, top + CAPTION)
        top += CAPTION + tile[1] + GAP
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
