"""The rule that says which shape and colour an image shows."""

from functools import cache

import numpy as np
import pytest

from ctrak_jax.data import COLORS, SHAPES, check, synthetic
from ctrak_jax.data.check import ShapeReader
from ctrak_jax.data.synthetic import OUTLINE, RADIUS, draw

REACH = RADIUS + OUTLINE / 2
EVERY = [(shape, color) for shape in SHAPES for color in COLORS]


@cache
def _cover(shape: str, center: tuple[float, float], size: int) -> np.ndarray:
    """Shares of canvas and of inside in every pixel [size, size, 2]: red is 255 in both, green
    in the canvas alone."""
    probe = draw(shape, "probe", center, size).astype(float) / 255.0
    return np.stack([probe[..., 1], probe[..., 0] - probe[..., 1]], axis=-1)


def quick_draw(shape: str, color: str, center: tuple[float, float], size: int) -> np.ndarray:
    """``draw`` to within one level, but a (shape, place) costs one drawing for all colours."""
    canvas, inside = np.moveaxis(_cover(shape, center, size), -1, 0)[..., None]
    return np.round(255.0 * canvas + inside * np.array(COLORS[color])).clip(0, 255).astype(np.uint8)


def make(shapes, colors, size: int) -> ShapeReader:
    """A reader whose drawings share their geometry: 80 kinds would take a minute to draw."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(synthetic.COLORS, "probe", (255, 0, 0))
        patch.setattr(check, "draw", quick_draw)
        return ShapeReader(shapes, colors, size)


@pytest.fixture(scope="module")
def small() -> ShapeReader:
    return make(tuple(SHAPES), tuple(COLORS), 16)


def places(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(REACH, 1.0 - REACH, (count, 2))


def test_the_quick_drawing_here_is_the_drawing(monkeypatch):
    monkeypatch.setitem(synthetic.COLORS, "probe", (255, 0, 0))
    for number, (shape, color) in enumerate(EVERY):
        (center,) = places(1, number)
        quick = quick_draw(shape, color, tuple(center), 16).astype(int)
        assert np.abs(quick - draw(shape, color, tuple(center), 16)).max() <= 2


def test_every_shape_and_colour_is_read_right_at_16_pixels(small):
    for number, (shape, color) in enumerate(EVERY):
        (center,) = places(1, 1000 + number)
        image = draw(shape, color, tuple(center), 16)
        assert small.read(image)[:2] == (shape, color)
        assert small.accepts(image, {"shape": shape, "color": color})


@pytest.mark.parametrize("size", [16, 32])
def test_the_shapes_of_the_benchmark_are_read_right_anywhere(size):
    """Without the quick drawing, at random places and in the corners of the region."""
    reader = ShapeReader(("triangle", "circle"), ("red",), size)
    edge = [(x, y) for x in (REACH, 1.0 - REACH) for y in (REACH, 1.0 - REACH)]
    for shape in ("triangle", "circle"):
        for center in [*map(tuple, places(12, size)), *edge]:
            image = draw(shape, "red", center, size)
            assert reader.read(image).shape == shape
            assert reader.accepts(image, {"shape": shape, "color": "red"})


def test_colours_are_read_right_at_32_pixels():
    reader = make(("circle",), tuple(COLORS), 32)
    for number, color in enumerate(COLORS):
        (center,) = places(1, number)
        image = draw("circle", color, tuple(center), 32)
        assert reader.read(image).color == color
        assert reader.accepts(image, {"shape": "circle", "color": color})


@pytest.mark.slow
def test_every_shape_and_every_colour_is_read_right_at_32_pixels():
    """Every shape in three colours (a reading compares with 58,000 drawings)."""
    reader = make(tuple(SHAPES), tuple(COLORS), 32)
    colors = list(COLORS)
    for number, (i, shape) in enumerate((i, s) for s in SHAPES for i in range(3)):
        color = colors[(number + i) % len(colors)]
        (center,) = places(1, 2000 + number)
        image = draw(shape, color, tuple(center), 32)
        assert reader.accepts(image, {"shape": shape, "color": color}), (shape, color)


def test_wrong_values_are_rejected(small):
    image = draw("star", "green", (0.45, 0.52), 16)
    for shape, color in EVERY:
        right = (shape, color) == ("star", "green")
        assert small.accepts(image, {"shape": shape, "color": color}) is right


def test_only_the_values_asked_about_count(small):
    image = draw("star", "green", (0.45, 0.52), 16)
    assert small.accepts(image, {})
    assert small.accepts(image, {"color": "green"})
    assert small.accepts(image, {"shape": "star"})
    assert not small.accepts(image, {"color": "red"})
    assert not small.accepts(image, {"shape": "cross"})


def blank(level: int) -> np.ndarray:
    return np.full((16, 16, 3), level, np.uint8)


def half_and_half() -> np.ndarray:
    """The left half of one shape, the right half of another."""
    left, right = (draw(s, "red", (0.5, 0.5), 16) for s in ("square", "cross"))
    return np.concatenate([left[:, :8], 255 - right[:, 8:]], axis=1)


NOTHING = {
    "white": blank(255),
    "gray": blank(128),
    "black": blank(0),
    "noise": np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8),
    "light noise": np.random.default_rng(1).integers(200, 256, (16, 16, 3)).astype(np.uint8),
    "inverted": 255 - draw("circle", "red", (0.5, 0.5), 16),
    "half and half": half_and_half(),
    "two shapes": np.minimum(
        draw("circle", "red", (0.33, 0.33), 16), draw("circle", "red", (0.66, 0.66), 16)
    ),
    "a patch of colour": np.pad(
        np.broadcast_to(np.array(COLORS["red"], np.uint8), (3, 3, 3)),
        ((6, 7), (6, 7), (0, 0)),
        constant_values=255,
    ),
}


@pytest.mark.parametrize("image", NOTHING.values(), ids=NOTHING.keys())
def test_what_shows_no_shape_is_rejected_whatever_is_asked(small, image):
    seen = small.read(image)
    assert seen.error > small.tolerance
    assert not small.accepts(image, {"shape": seen.shape, "color": seen.color})
    assert not small.accepts(image, {})


def test_a_little_noise_is_forgiven_and_much_is_not(small):
    clean = draw("hexagon", "blue", (0.5, 0.5), 16).astype(float)
    rng = np.random.default_rng(0)
    verdicts = []
    for sigma in (5.0, 60.0):
        noisy = (clean + rng.normal(0.0, sigma, clean.shape)).clip(0, 255).astype(np.uint8)
        verdicts.append(small.accepts(noisy, {"shape": "hexagon", "color": "blue"}))
    assert verdicts == [True, False]


def test_the_error_is_the_mean_difference_to_the_best_drawing():
    """At a place of the grid the drawing is met exactly; one pixel changed costs its share."""
    reader = ShapeReader(("circle",), ("red",), 16)
    x = REACH - 0.5 / 16 + 5 * 0.5 / 16
    image = draw("circle", "red", (x, x), 16)
    assert reader.read(image).error == 0.0
    image[0, 0] = (0, 255, 255)
    assert reader.read(image).error == pytest.approx(1 / (16 * 16 * 3))
