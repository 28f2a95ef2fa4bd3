"""Is the concept really there? A rule on pixels for drawn shapes, independent of any model."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ctrak_jax.data.synthetic import OUTLINE, RADIUS, draw


class Reading(NamedTuple):
    """What the rule sees in an image, and how well its drawing fits (mean absolute error, 0..1)."""

    shape: str
    color: str
    error: float


class ShapeReader:
    """Reads shape and colour by the best-fitting drawing over a grid of places.

    Every (shape, colour) is drawn at every place of a half-pixel grid once; an image is read as the
    drawing with the least mean absolute difference, and accepted where that is below ``tolerance``.
    """

    tolerance = 0.06

    def __init__(self, shapes: tuple[str, ...], colors: tuple[str, ...], size: int) -> None:
        reach = RADIUS + OUTLINE / 2
        places = np.arange(reach - 0.5 / size, 1.0 - reach + 0.5 / size, 0.5 / size)
        self.names = [(s, c) for s in shapes for c in colors]
        self._templates = [
            np.stack([draw(s, c, (x, y), size).reshape(-1) for y in places for x in places])
            for s, c in self.names
        ]

    def read(self, image: np.ndarray) -> Reading:
        """The best reading of one uint8 image [size, size, 3]."""
        flat = image.reshape(-1).astype(np.int16)
        errors = [np.abs(t.astype(np.int16) - flat).mean(1).min() for t in self._templates]
        best = int(np.argmin(errors))
        return Reading(*self.names[best], float(errors[best]) / 255.0)

    def accepts(self, image: np.ndarray, values: dict[str, str]) -> bool:
        """Does the image show these values, clearly?"""
        seen = self.read(image)
        wanted = (values.get("shape", seen.shape), values.get("color", seen.color))
        return (seen.shape, seen.color) == wanted and seen.error < self.tolerance


shape_reader = lru_cache(ShapeReader)
"""The reader of some shapes, colours and side; made once, its drawings take a while."""
