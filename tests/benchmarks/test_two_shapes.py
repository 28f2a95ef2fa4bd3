"""Pictures of two shapes with known regions, and what counts as keeping to one."""

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks import two_shapes
from benchmarks.two_shapes import WHOLE, Kept, drawn, means, measured, shows, table
from ctrak_jax import config
from ctrak_jax.data import COLORS, build
from ctrak_jax.data.synthetic import AND
from ctrak_jax.devices import local_mesh
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.stages.context import Context

KNOWN = ("red", "blue", "green", "yellow")


@pytest.fixture(scope="module")
def ctx(tmp_path_factory) -> Context:
    data = config.DataConfig(objects=2, size=54, image_size=24, colors=KNOWN)
    settings = config.Config(data=data, query=config.QueryConfig(check="none"))
    data_set = build(data)
    return Context(
        config=settings,
        folder=RunFolder(root=tmp_path_factory.mktemp("pairs")),
        seed=0,
        training_set=data_set,
        dataset=data_set,
        mesh=local_mesh(1),
    )


def test_the_regions_are_the_two_shapes(ctx):
    """They do not meet, hold all that is drawn, and each has the fill of its own colour alone."""
    for number in range(30):
        image, values, regions = drawn(ctx, number)
        assert list(values) == ["shape", "color"]
        assert set(regions) == set(values["color"].split(AND))
        one, other = regions.values()
        assert not (one & other).any()
        np.testing.assert_array_equal(
            one | other, (255 - image.astype(int)).max(-1) > two_shapes.CHANGED
        )
        for color, inside in regions.items():
            fill = (image == COLORS[color]).all(-1)
            assert fill.any()
            assert not (fill & ~inside).any()


def test_pictures_are_new_and_of_many_pairs(ctx):
    pictures = [drawn(ctx, number) for number in range(30)]
    known = {image.tobytes() for image in ctx.dataset.raw.images[:]}
    assert not known & {one.image.tobytes() for one in pictures}
    assert len({one.values["color"] for one in pictures}) == 6
    np.testing.assert_array_equal(drawn(ctx, 3).image, pictures[3].image)


def by_colors(ctx: Context, wanted: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> list[Kept]:
    """Rankings of images that show what is wanted of a picture's two colours."""
    pictures = [drawn(ctx, number) for number in range(8)]
    tops = []
    for one in pictures:
        first, second = (shows(ctx, color) for color in one.regions)
        orders = [first & second, wanted(first, second), wanted(second, first)]
        tops.append([np.resize(np.flatnonzero(found), 10) for found in orders])
    return measured(ctx, pictures, np.array(tops))


def test_a_ranking_that_keeps_to_the_part_is_told_from_one_that_does_not(ctx):
    keeping = means(by_colors(ctx, lambda own, other: own & ~other), whole=False)
    assert [round(found.mean, 6) for found in keeping] == [1, 0, 0]
    mistaken = means(by_colors(ctx, lambda own, other: other & ~own), whole=False)
    assert [round(found.mean, 6) for found in mistaken] == [0, 1, 0]
    whole = means(by_colors(ctx, lambda own, other: own), whole=True)
    assert [round(found.mean, 6) for found in whole] == [1, 1, 1]


def test_a_picture_counts_once(ctx):
    def kept(image: int, color: str, own: float) -> Kept:
        return Kept(image=image, region=color, color=color, own=own, other=1 - own, both=0.0)

    rows = [kept(0, "red", 1.0), kept(0, "blue", 0.5), kept(1, "red", 0.25)]
    assert [found.mean for found in means(rows, whole=False)] == [0.5, 0.5, 0.0]
    rows.append(Kept(image=0, region=WHOLE, color="red", own=1.0, other=1.0, both=1.0))
    head, _, part, whole, chance = table(rows, two_shapes.chance(ctx))
    assert {line.count("|") for line in (head, part, whole, chance)} == {5}
    assert part.startswith("| one shape | 0.50 [0.25, 0.75] | 0.50 [0.25, 0.75] | 0.00")
    assert chance.startswith("| *chance* | 0.50 | 0.50 | 0.17"), "of four colours, six pairs"


def test_the_config_draws_every_pair_of_colours():
    found = config.load(two_shapes.CONFIG)
    assert (found.data.objects, len(found.data.colors)) == (2, 6)
    assert found.unnamed.attributes == ("color",)
