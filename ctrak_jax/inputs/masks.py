"""Masks: pictures that say which part of a query image is asked about, white inside, black outside
and grey between."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ctrak_jax.data.decoding import readable
from ctrak_jax.data.pictures import SUFFIXES
from ctrak_jax.errors import UsageError

OF = "@"
"""Between the id of a query image and the name of a part of it."""
_NAME = re.compile(rf"[^{OF}]+{OF}[A-Za-z0-9._+-]+")


def read_mask(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A mask of an image [H, W, ...]: float32 [H, W], 1 inside. What is transparent is outside.

    Raises:
        UsageError: unreadable, of another size than the image, or all black.
        StoreError: the machine cannot read it now.
    """
    with readable(str(file)), Image.open(file) as opened:
        drawn = opened.convert("RGBA")
        black = Image.new("RGBA", drawn.size, "black")
        found = Image.alpha_composite(black, drawn).convert("L")
    found = np.asarray(found, np.float32) / 255.0
    height, width = shape[:2]
    if found.shape != (height, width):
        raise UsageError(
            f"{file}: is {found.shape[1]} x {found.shape[0]} pixels, the image {width} x "
            f"{height}; draw it over the image."
        )
    if not found.any():
        raise UsageError(f"{file}: is all black; paint white what is asked about.")
    return found


def fitted(mask: np.ndarray, sample: tuple[int, ...]) -> np.ndarray:
    """A mask [H, W] at the resolution of what the network sees [height, width, ...]: latents have
    the mean over their pixels."""
    height, width = sample[:2]
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.BOX))


def content(files: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of masks by name."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def mask_files(folder: Path | None) -> list[Path]:
    """The masks of a folder, named ``QUERY@PART.png`` or by another suffix of pictures.

    Raises:
        UsageError: no such folder, a picture of another name, or two of one name.
    """
    if folder is None:
        return []
    if not folder.is_dir():
        raise UsageError(f"query.masks={folder}: no such folder.")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    files = [file for file in files if not file.name.startswith(".")]
    for file in files:
        if not _NAME.fullmatch(file.stem):
            raise UsageError(
                f"query.masks: {file}: expected the id of a query image, {OF} and a name of letters"
                f" and digits, such as triangle-red-00{OF}left.png; rename it."
            )
    twice = [
        file for file, before in zip(files[1:], files, strict=False) if file.stem == before.stem
    ]
    if twice:
        raise UsageError(
            f"query.masks: {twice[0]}: another file is called so, too; keep one of them."
        )
    if not files:
        raise UsageError(f"query.masks={folder}: holds no picture; put masks there, or leave out.")
    return files
