"""What the models make that were trained without some images: a row of pictures a model."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ctrak_jax.report.contact import GAP, INK, LABEL, MARGIN, PAPER, file_name, picture_scale

ACROSS = 12
"""Pictures of a row."""


def write_counterfactual_sheet(folder: Path, name: str, drawn: Mapping[str, np.ndarray]) -> None:
    """Write the sheet.

    Args:
        folder: where to; made if missing.
        name: of the PNG.
        drawn: what a model was trained without, in words -> its images, uint8 [n, H, W, 3].
    """
    height, width = next(iter(drawn.values())).shape[1:3]
    scale = picture_scale(height, width)
    tile = (scale * width, scale * height)
    size = (
        2 * MARGIN + LABEL + ACROSS * (tile[0] + GAP) - GAP,
        2 * MARGIN + len(drawn) * (tile[1] + GAP) - GAP,
    )
    sheet = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for row, (title, images) in enumerate(drawn.items()):
        top = MARGIN + row * (tile[1] + GAP)
        draw.text((MARGIN, top), title.replace(" ", "\n", 1), fill=INK, font=font)
        for column, image in enumerate(images[:ACROSS]):
            enlarged = Image.fromarray(image).resize(tile, Image.Resampling.NEAREST)
            sheet.paste(enlarged, (MARGIN + LABEL + column * (tile[0] + GAP), top))
    folder.mkdir(parents=True, exist_ok=True)
    sheet.save(folder / f"{file_name(name)}.png")
