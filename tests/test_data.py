"""Data sets: drawn ones against geometry, read ones against what was written, and the batches."""

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ctrak_jax import config as cfg
from ctrak_jax.data import (
    COLORS,
    SHAPES,
    TrainingBatches,
    build,
    draw_dataset,
    read_folder,
    synthetic,
    write_folder,
)
from ctrak_jax.data.dataset import to_uint8, to_unit
from ctrak_jax.data.raw import RawImages
from ctrak_jax.data.synthetic import OUTLINE, RADIUS, draw
from ctrak_jax.errors import UsageError

ALL = [(shape, color) for shape in SHAPES for color in COLORS]


def drawn(**changes) -> RawImages:
    settings = {
        "size": 40,
        "image_size": 16,
        "shapes": ("triangle", "circle"),
        "colors": ("red", "blue"),
        "seed": 3,
    }
    return draw_dataset(**(settings | changes))


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


# Building


def test_held_out_combinations_are_not_trained_on():
    hold_out = ({"shape": "triangle", "color": "red"}, {"shape": "circle", "color": "blue"})
    data = build(cfg.DataConfig(size=40, hold_out=hold_out))
    shape, color = (np.array(data.raw.attributes[a]) for a in ("shape", "color"))
    out = (shape == "triangle") & (color == "red") | (shape == "circle") & (color == "blue")
    assert out.any()
    np.testing.assert_array_equal(data.train_index, np.flatnonzero(~out))
    assert len(data.train_values) == len(data.train_index) == 20
    assert not any(data.is_held_out(values) for values in data.train_values)
    assert all(data.is_held_out(combo) for combo in hold_out)
    np.testing.assert_array_equal(data.carries("color", "red"), color[~out] == "red")
    np.testing.assert_array_equal(data.train_images(), to_unit(data.raw.images[~out]))
    for values, code in zip(data.train_values, data.train_conditions, strict=True):
        np.testing.assert_array_equal(code, data.conditions.encode(values))


def test_combinations_that_never_occur_are_neither_trained_nor_held_out(tmp_path):
    """A folder without blue circles, with red triangles held out."""
    raw = build(cfg.DataConfig(size=40)).raw
    shape, color = (np.array(raw.attributes[a]) for a in ("shape", "color"))
    keep = ~((shape == "circle") & (color == "blue"))
    write_folder(
        RawImages(
            name="part",
            images=raw.images[keep],
            attributes={"shape": tuple(shape[keep]), "color": tuple(color[keep])},
        ),
        tmp_path / "part",
    )
    red_triangle = {"shape": "triangle", "color": "red"}
    data = build(cfg.DataConfig(kind="folder", path=tmp_path / "part", hold_out=(red_triangle,)))
    trained, held_out = data.combinations
    assert {tuple(c.values()) for c in trained} == {("triangle", "blue"), ("circle", "red")}
    assert held_out == [red_triangle]


def test_one_value_may_be_held_out_alone():
    data = build(cfg.DataConfig(size=40, hold_out=({"color": "red"},)))
    assert {values["color"] for values in data.train_values} == {"blue"}
    assert data.conditions.vocabulary["color"] == ("red", "blue"), "it can still be asked for"


def test_hold_out_by_an_attribute_that_is_no_condition_is_refused():
    """The stages ask of every combination of the condition whether it is held out: they could not
    tell, and no query could ask for what was held out."""
    with pytest.raises(UsageError, match=r"data\.hold_out: .*'color'.*data\.condition_on"):
        build(cfg.DataConfig(size=40, condition_on=("shape",), hold_out=({"color": "red"},)))
    data = build(cfg.DataConfig(size=40, condition_on=("shape",), hold_out=({"shape": "circle"},)))
    assert [data.is_held_out(values) for values in data.conditions.combinations()] == [False, True]


def test_condition_on_gives_order_and_length():
    data = build(
        cfg.DataConfig(size=12, condition_on=("color", "shape"), colors=("red", "blue", "green"))
    )
    assert data.conditions.attributes == ("color", "shape")
    assert data.train_conditions.shape == (12, 5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"condition_on": ("shape", "style")}, "'style'.*color.*shape"),
        ({"hold_out": ({"style": "red"},)}, "hold_out.*'style'"),
        ({"hold_out": ({"color": "green"},)}, "hold_out.*color='green'.*red"),
        ({"hold_out": ({"color": "green"},), "colors": ("green",)}, "removes all 40 images"),
    ],
)
def test_what_does_not_occur_or_leaves_nothing_is_refused(changes, words):
    with pytest.raises(UsageError, match=words):
        build(cfg.DataConfig(size=40, **changes))


def test_the_fingerprint_is_of_everything_features_depend_on(tmp_path):
    raw = drawn(size=12)
    write_folder(raw, tmp_path)
    base = {"kind": "folder", "path": tmp_path}

    def fingerprint(**changes):
        return build(cfg.DataConfig(**(base | changes))).fingerprint

    first = fingerprint()
    assert fingerprint() == first
    found = {
        first,
        fingerprint(condition_on=("color", "shape")),
        fingerprint(hold_out=({"color": "red"},)),
    }
    images = raw.images[:].copy()
    images[5, 3, 3, 1] ^= 1
    np.save(tmp_path / "images.npy", images)
    found.add(fingerprint())
    np.save(tmp_path / "images.npy", raw.images[:])
    table = tmp_path / "attributes.csv"
    old, new = ("red", "blue") if raw.attributes["color"][0] == "red" else ("blue", "red")
    table.write_text(table.read_text().replace(old, new, 1))
    found.add(fingerprint())
    assert len(found) == 5


def test_the_two_ranges_of_pixels_are_each_others_inverse():
    values = np.arange(256, dtype=np.uint8)
    unit = to_unit(values)
    assert (unit.min(), unit.max(), unit.dtype) == (-1.0, 1.0, np.float32)
    np.testing.assert_array_equal(to_uint8(unit), values)
    np.testing.assert_array_equal(to_uint8(np.array([-3.0, 3.0, 0.999])), [0, 255, 255])


# Folders


def write_attributes(path: Path, raw: RawImages) -> None:
    with (path / "attributes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["index", *raw.attributes])
        writer.writerows(
            [i, *values] for i, values in enumerate(zip(*raw.attributes.values(), strict=True))
        )


def test_a_folder_reads_as_it_was_written(tmp_path):
    raw = drawn(size=9)
    write_folder(raw, tmp_path / "set")
    found = read_folder(tmp_path / "set")
    np.testing.assert_array_equal(found.images, raw.images)
    assert found.attributes == raw.attributes
    assert (found.name, found.meta["licence"]) == (raw.name, "CC0-1.0")


def test_values_of_any_text_survive_the_folder(tmp_path):
    values = ("plain", 'a "quoted", one', "two\nlines", " spaced ", "größe", "")
    raw = RawImages(
        name="odd", images=drawn(size=6).images, attributes={"style": values, "a,b": values[::-1]}
    )
    write_folder(raw, tmp_path)
    assert read_folder(tmp_path).attributes == raw.attributes


def test_a_folder_trains_like_the_drawn_set(tmp_path):
    direct = build(cfg.DataConfig(size=16))
    write_folder(direct.raw, tmp_path)
    data = build(cfg.DataConfig(kind="folder", path=tmp_path))
    np.testing.assert_array_equal(data.train_images(), direct.train_images())
    assert data.train_values == direct.train_values
    assert data.conditions.vocabulary == {"shape": ("circle", "triangle"), "color": ("blue", "red")}


def test_pictures_are_read_in_the_order_of_their_names(tmp_path):
    raw = drawn(size=5)
    (tmp_path / "images").mkdir()
    for i in (3, 0, 4, 1, 2):
        Image.fromarray(raw.images[i]).save(tmp_path / "images" / f"{i:06d}.png")
    (tmp_path / "images" / "notes.txt").write_text("not a picture")
    write_attributes(tmp_path, raw)
    found = read_folder(tmp_path)
    np.testing.assert_array_equal(found.images, raw.images)
    assert found.name == tmp_path.name


@pytest.mark.parametrize("mode", ["RGBA", "P", "L"])
def test_pictures_of_other_modes_become_rgb(tmp_path, mode):
    gray = np.full((8, 8, 3), 130, np.uint8)
    gray[2:5] = 40
    (tmp_path / "images").mkdir()
    picture = Image.fromarray(gray).convert(mode, palette=Image.Palette.ADAPTIVE)
    assert picture.mode == mode
    picture.save(tmp_path / "images" / "0.png")
    (tmp_path / "attributes.csv").write_text("index,tone\n0,gray\n")
    np.testing.assert_array_equal(read_folder(tmp_path).images, gray[None])


def test_tar_shards_are_read_in_the_order_of_their_names(tmp_path):
    raw = drawn(size=6)
    (tmp_path / "images").mkdir()
    for shard, members in (("b.tar", (5, 3, 4)), ("a.tar", (1, 0, 2))):
        with tarfile.open(tmp_path / "images" / shard, "w") as tar:
            for i in members:
                picture = io.BytesIO()
                Image.fromarray(raw.images[i]).save(picture, "png")
                for name, content in ((f"{i:06d}.png", picture.getvalue()), (f"{i:06d}.cls", b"1")):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    write_attributes(tmp_path, raw)
    np.testing.assert_array_equal(read_folder(tmp_path).images, raw.images)


def test_one_prompt_an_image(tmp_path):
    write_folder(drawn(size=4), tmp_path)
    (tmp_path / "prompts.txt").write_text("a\nb\nc\nd\n")
    read_folder(tmp_path)
    (tmp_path / "prompts.txt").write_text("a\u2028x\r\nb\x0by\nc\n\n", newline="")
    assert read_folder(tmp_path).prompts == ("a\u2028x", "b\x0by", "c", "")
    (tmp_path / "prompts.txt").write_text("a\nb\nc\n")
    with pytest.raises(UsageError, match=r"prompts\.txt: 3 lines for 4 images"):
        read_folder(tmp_path)


@pytest.mark.parametrize("meta", [{"name": "mine", "licence": "CC0-1.0"}, {}, {"year": 2026}])
def test_meta_is_kept(tmp_path, meta):
    write_folder(drawn(size=4), tmp_path)
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    found = read_folder(tmp_path)
    assert {name: str(value) for name, value in found.meta.items()} == {
        name: str(value) for name, value in meta.items()
    }
    assert found.name == meta.get("name", tmp_path.name)


def test_an_attribute_given_twice_is_refused(tmp_path):
    """Which of the two columns is meant?"""
    write_folder(drawn(size=4), tmp_path)
    table = tmp_path / "attributes.csv"
    table.write_text(table.read_text().replace("shape,color", "shape,shape", 1))
    with pytest.raises(UsageError, match=r"attributes\.csv.*shape"):
        read_folder(tmp_path)


# Batches


@pytest.fixture(scope="module")
def dataset():
    return build(cfg.DataConfig(size=24, hold_out=({"shape": "triangle", "color": "red"},)))


def rows_of(dataset, x0: np.ndarray) -> list[int]:
    """Which training images a batch holds."""
    known = {image.tobytes(): row for row, image in enumerate(dataset.train_images())}
    assert len(known) == len(dataset.train_index), "no two images are the same"
    return [known[image.tobytes()] for image in x0.reshape(-1, *x0.shape[-3:])]


def test_a_later_start_gives_the_same_steps(dataset):
    whole = TrainingBatches(dataset, batch=4, seed=1)(0, 15)
    tail = TrainingBatches(dataset, batch=4, seed=1)(10, 5)
    np.testing.assert_array_equal(tail.x0, whole.x0[10:])
    np.testing.assert_array_equal(tail.cond, whole.cond[10:])
    assert whole.x0.shape == (15, 4, 16, 16, 3)


def test_an_image_keeps_its_condition(dataset):
    batches = TrainingBatches(dataset, batch=4, seed=1)(0, 9)
    rows = rows_of(dataset, batches.x0)
    np.testing.assert_array_equal(batches.cond.reshape(36, -1), dataset.train_conditions[rows])


@pytest.mark.parametrize("batch", [3, 4, 9, 18, 30])
def test_every_epoch_sees_every_image_once_in_an_order_of_its_own(dataset, batch):
    """Batches of 4 do not divide the 18 images: the stream runs on over the end of an epoch."""
    count = len(dataset.train_index)
    assert count == 18
    steps = -(-3 * count // batch)
    seen = rows_of(dataset, TrainingBatches(dataset, batch=batch, seed=1)(0, steps).x0)
    epochs = [seen[e * count : (e + 1) * count] for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(count))
    assert epochs[0] != epochs[1]
    assert epochs[1] != epochs[2]


def test_the_seed_decides_the_order(dataset):
    first, same, other = (TrainingBatches(dataset, batch=18, seed=s)(0, 1).x0 for s in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert rows_of(dataset, first) != rows_of(dataset, other)
