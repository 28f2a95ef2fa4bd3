"""Examples in two folders: pictures that show a concept, and pictures that do not."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from ctrak_jax.data.dataset import to_uint8, to_unit
from ctrak_jax.data.decoding import SUFFIXES, WHITE, decoded_picture, readable
from ctrak_jax.errors import UsageError
from ctrak_jax.rewards.base import NO, YES
from ctrak_jax.rewards.classifier.fitting import Examples
from ctrak_jax.rewards.classifier.network import centred_square

FEWEST = 5
"""Pictures of a folder."""
MOST = 50_000
"""Pictures of a data set that are read; of a larger one so many are drawn at random."""
READ = 256
"""Pictures of a data set read at a time."""
VALUES = (NO, YES)
"""The values of a concept that two folders show: that of the negative folder comes first."""


class ExampleFolder(NamedTuple):
    """The pictures of a folder, those that it has twice once.

    Attributes:
        folder: where they are.
        images: at one side, uint8 [n, side, side, 3].
        files: the hash of each one's file -> the file.
        repeated: how many files are left out.
    """

    folder: Path
    images: np.ndarray
    files: dict[str, Path]
    repeated: int


def of_folders(positive: Path, negative: Path, side: int) -> tuple[Examples, list[ExampleFolder]]:
    """The pictures of two folders as examples of ``VALUES``; those that a folder has twice count
    once.

    Args:
        positive: pictures that show the concept, sub-folders included.
        negative: pictures that do not.
        side: they are cut to their centred square and resized to it.

    Raises:
        UsageError: no such folder, fewer than ``FEWEST`` pictures, one that is not readable, or one
            that is in both.
    """
    found = [_read(flag, folder, side) for flag, folder in _folders(positive, negative)]
    _refuse_common(found)
    images = np.concatenate([one.images for one in found])
    values = np.repeat(np.arange(2), [len(one.images) for one in found])
    return Examples(images, values[:, None]), found


def of_pictures(
    images: Callable[[np.ndarray], np.ndarray],
    values: np.ndarray,
    side: int,
    seed: int,
) -> Examples:
    """The pictures of a data set at one side, at most ``MOST`` of them.

    Args:
        images: rows -> pictures uint8 [row, H, W, 3].
        values: by picture and attribute, the place of its value [n, head].
        side: of the examples.
        seed: of the draw.
    """
    rows = np.arange(len(values))
    if len(rows) > MOST:
        rows = np.sort(np.random.default_rng((seed, 2)).permutation(rows)[:MOST])
    small = jax.jit(jax.vmap(lambda image: centred_square(image, side)))
    blocks = (images(rows[i : i + READ]) for i in range(0, len(rows), READ))
    read = [
        block if block.shape[1:3] == (side, side) else to_uint8(np.asarray(small(to_unit(block))))
        for block in blocks
    ]
    return Examples(np.concatenate(read), values[rows])


def _folders(positive: Path, negative: Path) -> list[tuple[str, Path]]:
    return [("--negative", negative), ("--positive", positive)]


def _read(flag: str, folder: Path, side: int) -> ExampleFolder:
    if not folder.is_dir():
        raise UsageError(f"{flag} {folder}: no such folder; give one of pictures.")
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
    )
    pictures: dict[str, np.ndarray] = {}
    places: dict[str, Path] = {}
    for file in files:
        with readable(str(file)):
            content = file.read_bytes()
            name = hashlib.sha256(content).hexdigest()
            pictures[name] = decoded_picture(content, side, WHITE)
            places.setdefault(name, file)
    if len(pictures) < FEWEST:
        raise UsageError(
            f"{flag} {folder}: has {len(pictures)} different pictures, at least {FEWEST} are "
            "needed; add some."
        )
    repeated = len(files) - len(pictures)
    return ExampleFolder(folder, np.stack(list(pictures.values())), places, repeated)


def _refuse_common(found: list[ExampleFolder]) -> None:
    negative, positive = found
    common = [name for name in positive.files if name in negative.files]
    if common:
        one, other = positive.files[common[0]], negative.files[common[0]]
        raise UsageError(
            f"{one} and {other} are the same picture ({len(common)} such); a picture shows the "
            "concept or does not, leave each in one folder."
        )
