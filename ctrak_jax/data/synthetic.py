"""The synthetic benchmark: a white canvas, one outlined shape in one colour at a random place
(method.md, section 7), or two smaller ones of two colours. Every image is a function of (seed,
index) and the configuration alone."""

from collections.abc import Callable, Sequence
from itertools import combinations, combinations_with_replacement, product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ctrak_jax.data.raw import RawImages
from ctrak_jax.errors import UsageError

RADIUS = 0.28
"""Circumscribed radius as a share of the width."""
PAIR_RADIUS = 0.2
"""The same of two shapes in one picture."""
OUTLINE = 0.05
"""Width of the black outline as a share of the width."""
PAIRS = "pairs of synthetic shapes"
"""The name of a data set of two shapes per picture."""
AND = "+"
"""Between the two values that a picture of two shapes has of an attribute."""
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


class Figure(NamedTuple):
    """A shape in a colour; its centre (x, y) and circumscribed radius are shares of the width."""

    shape: str
    color: str
    center: tuple[float, float]
    radius: float = RADIUS


def draw(shape: str, color: str, center: tuple[float, float], size: int) -> np.ndarray:
    """One image of one shape, uint8 [size, size, 3].

    ``center`` is (x, y) of the shape as shares of the width.
    """
    return draw_figures([Figure(shape, color, center)], size)


def draw_figures(figures: Sequence[Figure], size: int) -> np.ndarray:
    """One image of figures that do not overlap, uint8 [size, size, 3], drawn at 4 times the size
    and box-filtered."""
    image = np.full((size, size, 3), 255.0)
    for figure in figures:
        black, coloured = _covered(figure, size)
        image += np.array(COLORS[figure.color]) * coloured - 255.0 * black
    return np.round(image).astype(np.uint8)


def _covered(figure: Figure, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The share of each pixel that a figure covers, and that its fill covers [size, size, 1]."""
    fine, (shape, _, center, radius) = size * SUPERSAMPLE, figure
    grid = (np.arange(fine) + 0.5) / fine
    # Beyond the circumscribed circle and its outline all is white.
    reach = np.array([-1.0, 1.0]) * (radius + OUTLINE)
    columns, rows = (slice(*np.searchsorted(grid, middle + reach)) for middle in center)
    x, y = grid[columns][None], grid[rows][:, None]
    distance = SHAPES[shape]((x - center[0]) / radius, (y - center[1]) / radius) * radius
    outlined, filled = (np.zeros((fine, fine)) for _ in range(2))
    outlined[rows, columns] = distance < OUTLINE / 2
    filled[rows, columns] = distance < -OUTLINE / 2
    black, coloured = (_boxes(part, size)[..., None] for part in (outlined, filled))
    return black, coloured


def _boxes(fine: np.ndarray, size: int) -> np.ndarray:
    """The mean of each pixel's box: exact, a number of sixteenths."""
    boxes = fine.reshape(size, SUPERSAMPLE, size, SUPERSAMPLE)
    return boxes.sum(axis=(1, 3)) / SUPERSAMPLE**2


def place_of(seed: int, index: int) -> tuple[float, float]:
    """The centre of the shape of a data set's image, as shares of the width."""
    reach = RADIUS + OUTLINE / 2
    x, y = np.random.default_rng((seed, 1, index)).uniform(reach, 1.0 - reach, 2)
    return float(x), float(y)


def pair_of(seed: int, index: int, shape: str, color: str) -> tuple[Figure, Figure]:
    """The two figures of a data set's image, which do not overlap.

    Args:
        seed: of the data set.
        index: of the image.
        shape: the value of the image's attribute, such as ``triangle+circle``.
        color: likewise; which shape has which colour is drawn.
    """
    rng = np.random.default_rng((seed, 2, index))
    reach = PAIR_RADIUS + OUTLINE / 2
    first = second = np.zeros(2)
    while np.hypot(*(first - second)) < 2 * (PAIR_RADIUS + OUTLINE):
        first, second = rng.uniform(reach, 1.0 - reach, (2, 2))
    shapes = rng.permutation(shape.split(AND))
    one, other = (
        Figure(str(s), c, (float(x), float(y)), PAIR_RADIUS)
        for s, c, (x, y) in zip(shapes, color.split(AND), (first, second), strict=True)
    )
    return one, other


def draw_dataset(
    *,
    size: int,
    image_size: int,
    shapes: Sequence[str],
    colors: Sequence[str],
    seed: int,
    objects: int = 1,
) -> RawImages:
    """``size`` images, every (shape, colour) as often as any other up to one, in random order.

    Args:
        size: how many.
        image_size: side in pixels.
        shapes: known ones.
        colors: known ones.
        seed: of order and places.
        objects: 1, or 2 for two shapes in every image. They may be the same shape and have two
            colours; the values of the attributes are pairs then (:data:`AND`), in the order of
            ``shapes`` and ``colors``, and do not say which shape has which colour.

    Raises:
        UsageError: a shape or colour that is not known, or given twice, or one colour for two.
    """
    for field, names, known in (("shapes", shapes, SHAPES), ("colors", colors, COLORS)):
        for name in names:
            if name not in known:
                raise UsageError(f"data.{field}: {name!r} is not known; use {list(known)}.")
        if len(set(names)) != len(names) or not names:
            raise UsageError(f"data.{field}={list(names)} must name each value once.")
    if objects == 2:
        if len(colors) < 2:
            raise UsageError(f"data.colors={list(colors)}: two objects need two colours or more.")
        shapes = [AND.join(pair) for pair in combinations_with_replacement(shapes, 2)]
        colors = [AND.join(pair) for pair in combinations(colors, 2)]
    combos = list(product(shapes, colors))
    order = np.random.default_rng((seed, 0)).permutation(size) % len(combos)
    images = np.empty((size, image_size, image_size, 3), np.uint8)
    for i in range(size):
        shape, color = combos[order[i]]
        if objects == 2:
            images[i] = draw_figures(pair_of(seed, i, shape, color), image_size)
        else:
            images[i] = draw(shape, color, place_of(seed, i), image_size)
    name = PAIRS if objects == 2 else "synthetic shapes"
    return RawImages(
        name=name,
        images=images,
        attributes={
            "shape": tuple(combos[c][0] for c in order),
            "color": tuple(combos[c][1] for c in order),
        },
        vocabulary={"shape": tuple(shapes), "color": tuple(colors)},
        meta={"name": name, "licence": "CC0-1.0", "source": f"drawn, seed {seed}"},
    )
