"""Truth of the maps: regions by hand, and the measures of maps that are known."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from benchmarks import regions
from benchmarks.map_measures import (
    EVERY,
    Measured,
    centred,
    enrichment,
    points_inside,
    summary,
)
from benchmarks.regions import Values, drawings, region
from ctrak_jax.config import DataConfig
from ctrak_jax.data import build, synthetic
from ctrak_jax.data.avatars.draw import AvatarSettings, draw_checked
from ctrak_jax.errors import UsageError

SHAPES = ("triangle", "circle", "square")
COLORS = ("red", "blue")


def shape_of(values: Values) -> np.ndarray:
    return synthetic.draw(values["shape"], values["color"], (0.5, 0.5), 16)


def test_colour_is_in_the_fill():
    """The fill of a square with corners at 0.28 and an outline of 0.05 reaches to
    0.28 / sqrt(2) - 0.025 = 0.173 of the width from its centre: 2.77 of 16 pixels."""
    found = region(shape_of, {"shape": "square", "color": "red"}, "color", COLORS)
    rows, columns = np.nonzero(found)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 10, 5, 10)
    assert found.sum() == 36


def test_shape_is_where_outlines_differ():
    found = region(shape_of, {"shape": "triangle", "color": "red"}, "shape", ("triangle", "circle"))
    other = region(shape_of, {"shape": "circle", "color": "red"}, "shape", ("triangle", "circle"))
    np.testing.assert_array_equal(found, other)
    below = int((0.5 + synthetic.RADIUS / 2 + synthetic.OUTLINE / 2) * 16) + 1
    assert found[below, 8]  # under the triangle, in the circle
    assert not found[8, 8]  # both are filled here
    assert not found[0].any()  # white in both


def test_every_other_value_counts():
    """The region is the union over values, whatever their order."""
    values = {"shape": "triangle", "color": "red"}
    both = region(shape_of, values, "shape", SHAPES)
    one, two = (region(shape_of, values, "shape", ("triangle", v)) for v in SHAPES[1:])
    np.testing.assert_array_equal(both, one | two)
    assert (one ^ two).any()


def drawn() -> regions.Drawings:
    data = build(DataConfig(size=12, shapes=SHAPES, colors=COLORS, seed=3))
    return drawings(data, 3)


def test_pictures_of_the_data_set_are_drawn_again_in_their_places():
    found = drawn()
    for index in range(12):
        white = (found.data.raw.images[index] > 250).all(-1)
        assert not (found.region(index, "color") & white).any()


def test_a_picture_that_is_drawn_otherwise_is_refused():
    found = drawn()
    np.asarray(found.data.raw.images)[5, 0, 0] = 7
    with pytest.raises(UsageError, match="image 5 of the data set is drawn otherwise"):
        found.region(5, "shape")
    with pytest.raises(UsageError, match="drawn shapes and avatars alone"):
        drawings(replace(found.data, raw=replace(found.data.raw, name="mine")), 3)


def test_new_pictures_are_none_of_the_data_set():
    found = drawn()
    values = found.values(0)
    pictures = [found.new(values, n, "color")[0] for n in range(3)]
    every = [*found.data.raw.images, *pictures]
    assert len({picture.tobytes() for picture in every}) == len(every)


def test_avatars_keep_their_seed():
    """The corner is background alone; the middle is not, and the hair is not the skin."""
    for package in ("dicebear", "dicebear_styles", "resvg_py"):
        pytest.importorskip(package, reason="needs the extra avatars")
    values = {"style": "avataaars", "hair": "red", "skin": "light", "glasses": "yes"}
    values |= {"beard": "no", "background": "sky"}
    data = drawn().data
    found = regions.Drawings(
        data=replace(data, raw=replace(data.raw, images=np.zeros((1, 32, 32, 3), np.uint8))),
        seed=0,
        per_combination=2,
    )
    draw = found.hand(values, 1)
    np.testing.assert_array_equal(draw(values), draw_checked(values, 1, AvatarSettings(32, 2, 0)))
    of = partial(region, draw, values)
    background, hair = of("background", ("sky", "mint")), of("hair", ("red", "black"))
    glasses, skin = of("glasses", ("no", "yes")), of("skin", ("light", "dark"))
    assert background[0, 0]
    for other in (hair, glasses, skin):
        assert other.any()
        assert not (background & other).all()
        assert not other[0, 0]
    assert (hair & skin).sum() < 0.25 * min(hair.sum(), skin.sum())  # edges alone


def inside(*places: tuple[int, int]) -> np.ndarray:
    found = np.zeros((4, 4), bool)
    found[tuple(zip(*places, strict=True))] = True
    return found


def test_measures_of_a_map_by_hand():
    """Three quarters of the positive part inside a quarter of the area is three times as much."""
    part = inside((0, 0), (0, 1), (1, 0), (1, 1))
    found = np.zeros((4, 4))
    found[0, 0], found[1, 1], found[3, 3], found[2, 0] = 2.0, 1.0, 1.0, -50.0
    assert enrichment(found, part) == pytest.approx(3.0)
    assert points_inside(found, part)
    assert not points_inside(-found, part)
    assert enrichment(part.astype(float), part) == pytest.approx(4.0)
    assert enrichment(7.0 * found, part) == pytest.approx(enrichment(found, part))
    assert enrichment(~part * 1.0, part) == 0.0
    assert enrichment(part * -1.0, part) == 1.0


def test_a_random_map_is_enriched_nowhere():
    rng = np.random.default_rng(0)
    part = inside((0, 0), (2, 3), (1, 1))
    maps = rng.normal(size=(4000, 4, 4))
    assert np.mean([enrichment(m, part) for m in maps]) == pytest.approx(1.0, abs=0.05)
    assert np.mean([points_inside(m, part) for m in maps]) == pytest.approx(3 / 16, abs=0.02)


def test_a_centred_map_prefers_the_middle():
    found = centred((4, 4))
    np.testing.assert_allclose(found, found[::-1, ::-1])
    middle = inside((1, 1), (1, 2), (2, 1), (2, 2))
    assert enrichment(found, middle) > 1.5 > 0.7 > enrichment(found, ~middle)
    assert points_inside(found, middle)


def test_means_count_questions_and_attributes_alike():
    """Three maps of one question weigh as much as one of another."""

    def row(query: str, attribute: str, value: float) -> Measured:
        return Measured(
            of="training",
            images="first",
            run=0,
            query=query,
            scenario="ood",
            attribute=attribute,
            method="trak",
            enrichment=value,
            pointing=0.0,
        )

    rows = [row("a", "shape", 1.0), *[row("b", "shape", 4.0)] * 3, row("a", "color", 6.0)]
    rows.append(row("b", "color", 8.0))
    value = partial(summary, rows, lambda r: r.enrichment)
    assert value("shape").mean == pytest.approx(2.5)
    assert value("color").mean == pytest.approx(7.0)
    every = value(EVERY)
    assert every.mean == pytest.approx((3.5 + 6.0) / 2)
    assert (every.low, every.high) == pytest.approx((3.5, 6.0))
