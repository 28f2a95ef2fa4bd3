"""The synthetic benchmark: a white canvas, one outlined shape in one colour at a random place
(method.md, section 7). Every image is a function of (seed, index) and the configuration alone."""

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from ctrak_jax.data.raw import RawImages
from ctrak_jax.errors import UsageError

RADIUS = 0.28
"""Circumscribed radius as a share of the width."""
OUTLINE = 0.05
"""Width of the black outline as a share of the width."""
SUPERSAMPLE = 4

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "blue": (30, 60, 220),
    "green": (30, 160, 60),
    "yellow": (240, 210, 30),
    "purple": (140, 50, 170),
    "orange": (245, 135, 25),
    "cyan": (30, 190, 205),
    "pink": (250, 130, 180),
    "brown": (125, 75, 40),
    "gray": (130, 130, 130),
}

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _polygon(vertices: ArrayLike) -> Distance:
    """Signed distance to a polygon (inside negative); vertices [n, 2] in units of the radius."""
    begins = np.asarray(vertices)
    ends = np.roll(begins, -1, axis=0)

    def distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        nearest = np.full(np.broadcast_shapes(x.shape, y.shape), np.inf)
        inside = np.zeros(nearest.shape, bool)
        for (ax, ay), (bx, by) in zip(begins, ends, strict=True):
            dx, dy = bx - ax, by - ay
            along = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0.0, 1.0)
            nearest = np.minimum(nearest, np.hypot(x - ax - along * dx, y - ay - along * dy))
            if dy:  # a level edge is never crossed by a level ray
                inside ^= ((ay > y) != (by > y)) & (x < dx * (y - ay) / dy + ax)
        return np.where(inside, -nearest, nearest)

    return distance


def _regular(corners: int, inner: float = 1.0, turn: float = 0.0) -> Distance:
    """A regular polygon with its first corner up; ``inner`` < 1 pulls every second one in."""
    count = corners if inner == 1.0 else 2 * corners
    angles = np.pi * (2 * np.arange(count) / count + turn) - np.pi / 2
    radii = np.where(np.arange(count) % 2, inner, 1.0)
    return _polygon(np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1))


def _cross(a: float, b: float) -> Distance:
    right = [(a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b)]
    return _polygon(right + [(-x, -y) for x, y in right])


SHAPES: dict[str, Distance] = {
    "triangle": _regular(3),
    "circle": lambda x, y: np.hypot(x, y) - 0.9,
    "square": _regular(4, turn=0.25),
    "star": _regular(5, inner=0.45),
    "pentagon": _regular(5),
    "hexagon": _regular(6),
    "diamond": _polygon([(0.0, -1.0), (0.65, 0.0), (0.0, 1.0), (-0.65, 0.0)]),
    "cross": _cross(0.36, 0.95),
}


def draw(shape: str, color: str, center: tuple[float, float], size: int) -> np.ndarray:
    """One image, uint8 [size, size, 3], drawn at 4 times the size and box-filtered.

    ``center`` is (x, y) of the shape as shares of the width.
    """
    fine = size * SUPERSAMPLE
    grid = (np.arange(fine) + 0.5) / fine
    # Beyond the circumscribed circle and its outline all is white.
    reach = np.array([-1.0, 1.0]) * (RADIUS + OUTLINE)
    columns, rows = (slice(*np.searchsorted(grid, middle + reach)) for middle in center)
    x, y = grid[columns][None], grid[rows][:, None]
    distance = SHAPES[shape]((x - center[0]) / RADIUS, (y - center[1]) / RADIUS) * RADIUS
    outlined, filled = (np.zeros((fine, fine)) for _ in range(2))
    outlined[rows, columns] = distance < OUTLINE / 2
    filled[rows, columns] = distance < -OUTLINE / 2
    black, coloured = (_boxes(part, size)[..., None] for part in (outlined, filled))
    return np.round(255.0 * (1.0 - black) + np.array(COLORS[color]) * coloured).astype(np.uint8)


def _boxes(fine: np.ndarray, size: int) -> np.ndarray:
    """The mean of each pixel's box: exact, a number of sixteenths."""
    boxes = fine.reshape(size, SUPERSAMPLE, size, SUPERSAMPLE)
    return boxes.sum(axis=(1, 3)) / SUPERSAMPLE**2


def place_of(seed: int, index: int) -> tuple[float, float]:
    """The centre of the shape of a data set's image, as shares of the width."""
    reach = RADIUS + OUTLINE / 2
    x, y = np.random.default_rng((seed, 1, index)).uniform(reach, 1.0 - reach, 2)
    return float(x), float(y)


def draw_dataset(
    *, size: int, image_size: int, shapes: Sequence[str], colors: Sequence[str], seed: int
) -> RawImages:
    """``size`` images, every (shape, colour) as often as any other up to one, in random order.

    Raises:
        UsageError: a shape or colour that is not known, or given twice.
    """
    for field, names, known in (("shapes", shapes, SHAPES), ("colors", colors, COLORS)):
        for name in names:
            if name not in known:
                raise UsageError(f"data.{field}: {name!r} is not known; use {list(known)}.")
        if len(set(names)) != len(names) or not names:
            raise UsageError(f"data.{field}={list(names)} must name each value once.")
    combos = list(product(shapes, colors))
    order = np.random.default_rng((seed, 0)).permutation(size) % len(combos)
    images = np.empty((size, image_size, image_size, 3), np.uint8)
    for i in range(size):
        shape, color = combos[order[i]]
        images[i] = draw(shape, color, place_of(seed, i), image_size)
    return RawImages(
        name="synthetic shapes",
        images=images,
        attributes={
            "shape": tuple(combos[c][0] for c in order),
            "color": tuple(combos[c][1] for c in order),
        },
        vocabulary={"shape": tuple(shapes), "color": tuple(colors)},
        meta={"name": "synthetic shapes", "licence": "CC0-1.0", "source": f"drawn, seed {seed}"},
    )
