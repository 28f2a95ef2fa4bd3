"""Drawn data sets against geometry."""

import numpy as np
import pytest

from ctrak_jax.data import (
    COLORS,
    SHAPES,
    synthetic,
)
from ctrak_jax.data.synthetic import OUTLINE, RADIUS, draw
from ctrak_jax.errors import UsageError
from tests.data.samples import drawn

ALL = [(shape, color) for shape in SHAPES for color in COLORS]


# One drawing


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("shape", SHAPES)
def test_centre_outline_and_canvas(shape, size):
    """The colour at the centre, pure white in the corners, black between them on every ray."""
    for color in ("yellow", "blue"):
        for center in ((0.5, 0.5), (0.35, 0.6)):
            image = draw(shape, color, center, size).astype(int)
            x, y = int(center[0] * size), int(center[1] * size)
            np.testing.assert_array_equal(image[y, x], COLORS[color])
            np.testing.assert_array_equal(image[[0, 0, -1, -1], [0, -1, 0, -1]], 255)
            for ray in (image[y, x:], image[y, x::-1], image[y:, x], image[y::-1, x]):
                darkest = ray.max(axis=1).argmin()
                assert ray[darkest].max() < max(COLORS[color]) - 60, "an outline is crossed"
                assert (ray[-1] == 255).all(), "and then the canvas"


@pytest.mark.parametrize("color", COLORS)
def test_every_colour_fills_its_shape(color):
    image = draw("circle", color, (0.5, 0.5), 32)
    np.testing.assert_array_equal(image[12:20, 12:20], np.broadcast_to(COLORS[color], (8, 8, 3)))


def test_colours_and_shapes_look_different():
    colors = np.array(list(COLORS.values()))
    apart = np.abs(colors[:, None] - colors[None]).max(-1) + 255 * np.eye(len(colors), dtype=int)
    assert apart.min() >= 40
    pictures = np.stack([draw(shape, "red", (0.5, 0.5), 32) for shape in SHAPES]).astype(float)
    for i, a in enumerate(pictures):
        for b in pictures[i + 1 :]:
            assert np.abs(a - b).mean() > 2.0


def polygon(corners: int) -> tuple[float, float]:
    """Area and perimeter of a regular polygon in a circle of radius one."""
    return corners / 2 * np.sin(2 * np.pi / corners), 2 * corners * np.sin(np.pi / corners)


AREAS = {
    "triangle": polygon(3),
    "square": polygon(4),
    "pentagon": polygon(5),
    "hexagon": polygon(6),
    "circle": (np.pi * 0.9**2, 2 * np.pi * 0.9),
    "diamond": (2 * 0.65, 4 * np.hypot(1.0, 0.65)),
}


@pytest.mark.parametrize(("shape", "measures"), AREAS.items(), ids=AREAS.keys())
def test_areas_are_those_of_geometry(monkeypatch, shape, measures):
    """A convex shape grown by w/2 covers A + P w/2 + pi w^2/4; its outline is black whatever the
    colour, and the inside of a circle shrinks to pi (r - w/2)^2."""
    area, perimeter = measures
    half = OUTLINE / 2
    grown = area * RADIUS**2 + perimeter * RADIUS * half + np.pi * half**2
    monkeypatch.setitem(synthetic.COLORS, "black", (0, 0, 0))
    black = draw(shape, "black", (0.47, 0.52), 64)
    assert 1 - black.mean() / 255 == pytest.approx(grown, rel=0.01)
    if shape == "circle":
        monkeypatch.setitem(synthetic.COLORS, "white", (255, 255, 255))
        ring = 1 - draw(shape, "white", (0.47, 0.52), 64).mean() / 255
        inside = np.pi * (0.9 * RADIUS - half) ** 2
        assert ring == pytest.approx(grown - inside, rel=0.03)


def test_a_shape_moves_with_its_centre():
    at = draw("star", "green", (0.4, 0.5), 32)
    np.testing.assert_array_equal(
        np.roll(at, (2, 5), (0, 1)), draw("star", "green", (0.4 + 5 / 32, 0.5 + 2 / 32), 32)
    )


# A drawn data set


def test_the_same_seed_draws_the_same():
    a, b = drawn(), drawn()
    np.testing.assert_array_equal(a.images, b.images)
    assert a.attributes == b.attributes


def test_another_seed_draws_another():
    a, b = drawn(), drawn(seed=4)
    assert a.attributes != b.attributes
    assert (a.images[:] != b.images[:]).any(axis=(1, 2, 3)).all()


def test_the_place_of_an_image_depends_on_seed_and_index_alone():
    """With one shape and colour the first 20 of 50 are the 20."""
    alone = {"shapes": ("star",), "colors": ("pink",)}
    np.testing.assert_array_equal(
        drawn(size=50, **alone).images[:20], drawn(size=20, **alone).images
    )
    blue = drawn(size=20, shapes=("star",), colors=("blue",)).images
    outline = [(picture != 255).any(-1) for picture in (blue[:], drawn(size=20, **alone).images[:])]
    np.testing.assert_array_equal(*outline)


@pytest.mark.parametrize("size", [7, 40, 41])
def test_every_combination_is_drawn_as_often_as_any_other_up_to_one(size):
    raw = drawn(size=size, colors=("red", "blue", "green"))
    pairs = list(zip(raw.attributes["shape"], raw.attributes["color"], strict=True))
    counts = [pairs.count((s, c)) for s in ("triangle", "circle") for c in ("red", "blue", "green")]
    assert sum(counts) == size == len(raw.images)
    assert max(counts) - min(counts) <= 1
    if size > 20:
        assert pairs[:6] != pairs[6:12], "in random order"


def test_images_show_their_values_at_different_places_inside_the_canvas():
    raw = drawn(size=2 * len(ALL), image_size=32, shapes=tuple(SHAPES), colors=tuple(COLORS))
    assert set(zip(raw.attributes["shape"], raw.attributes["color"], strict=True)) == set(ALL)
    assert raw.images.dtype == np.uint8
    places = []
    for image, color in zip(raw.images[:], raw.attributes["color"], strict=True):
        border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        # It may touch the border, with its outline at most: cut off, its colour would stand there.
        assert (np.ptp(border.astype(int), axis=1) <= 2).all()
        present = {name for name, rgb in COLORS.items() if (image == rgb).all(-1).any()}
        assert present == {color}
        assert (image.max(-1) < 60).any(), "a black outline"
        y, x = np.nonzero((image == COLORS[color]).all(-1))
        places.append((x.mean(), y.mean()))
    assert (np.ptp(places, axis=0) > 8).all()
    assert (np.abs(np.mean(places, axis=0) - 15.5) < 1.0).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shapes": ("triangle", "blob")}, "data.shapes: 'blob'"),
        ({"colors": ("red", "mauve")}, "data.colors: 'mauve'"),
        ({"colors": ("red", "red")}, "data.colors"),
        ({"shapes": ()}, "data.shapes"),
    ],
)
def test_values_that_cannot_be_drawn_are_named(changes, words):
    with pytest.raises(UsageError, match=words):
        drawn(**changes)


# Two shapes in a picture

PAIRS = {"objects": 2, "image_size": 24, "colors": ("red", "blue", "green"), "size": 60}


def test_a_pair_shows_its_two_colours_apart_from_each_other():
    raw = drawn(**PAIRS)
    assert set(raw.attributes["color"]) == {"red+blue", "red+green", "blue+green"}
    assert set(raw.attributes["shape"]) == {
        *("triangle+triangle", "triangle+circle", "circle+circle"),
    }
    reach = synthetic.PAIR_RADIUS + OUTLINE / 2
    for i, image in enumerate(raw.images[:]):
        pair = synthetic.pair_of(3, i, raw.attributes["shape"][i], raw.attributes["color"][i])
        fills = {name: (image == COLORS[name]).all(-1) for name in PAIRS["colors"]}
        assert {name for name, fill in fills.items() if fill.any()} == {f.color for f in pair}
        for figure in pair:
            y, x = (np.argwhere(fills[figure.color]).mean(0) + 0.5) / 24
            assert np.hypot(x - figure.center[0], y - figure.center[1]) < 0.05
            assert all(reach <= place <= 1 - reach for place in figure.center)
        one, other = (np.array(figure.center) for figure in pair)
        assert np.hypot(*(one - other)) > 2 * reach, "they do not touch"


def test_a_pair_is_its_two_shapes_drawn_alone():
    """What either changes of the canvas sums to what both change."""
    pair = synthetic.pair_of(0, 7, "triangle+circle", "red+blue")
    both, *alone = (
        synthetic.draw_figures(figures, 24).astype(int) - 255 for figures in (pair, *zip(pair))
    )
    np.testing.assert_array_equal(both, sum(alone))
    assert not (alone[0].any(-1) & alone[1].any(-1)).any()


def test_the_colours_of_a_pair_do_not_say_which_shape_has_which():
    shapes = [synthetic.pair_of(0, i, "triangle+circle", "red+blue")[0].shape for i in range(200)]
    assert 60 < shapes.count("triangle") < 140


def test_pairs_are_functions_of_seed_and_index():
    np.testing.assert_array_equal(drawn(**PAIRS).images, drawn(**PAIRS).images)
    other = drawn(**PAIRS, seed=4).images
    assert (drawn(**PAIRS).images[:] != other[:]).any(axis=(1, 2, 3)).all()


def test_a_pair_needs_two_colours():
    with pytest.raises(UsageError, match=r"data.colors=\['red'\]: two objects need two colours"):
        drawn(objects=2, colors=("red",))
