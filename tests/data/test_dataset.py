"""A data set built: what is trained on, what is held out, its conditions and fingerprint."""

from dataclasses import replace

import numpy as np
import pytest

from ctrak_jax import config as cfg
from ctrak_jax.data import (
    build,
    write_folder,
)
from ctrak_jax.data.conditions import Conditions
from ctrak_jax.data.dataset import to_uint8, to_unit
from ctrak_jax.data.raw import RawImages
from ctrak_jax.errors import UsageError
from tests.data.samples import drawn


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


# Values that the model is not told


def test_a_share_of_every_values_carriers_hides_it():
    data = build(cfg.DataConfig(size=400, unlabelled={"color": 0.3}))
    color, hidden = np.array(data.raw.attributes["color"]), data.hidden["color"]
    for value in ("red", "blue"):
        carriers = color == value
        assert hidden[carriers].sum() == round(0.3 * carriers.sum())
    np.testing.assert_array_equal(data.named("color"), ~hidden)
    assert data.named("shape").all()
    plain = build(cfg.DataConfig(size=400))
    blocks = data.conditions.blocks
    expected = plain.train_conditions * np.where((blocks == 1) & hidden[:, None], 0, 1)
    np.testing.assert_array_equal(data.train_conditions, expected)
    np.testing.assert_array_equal(data.carries("color", "red"), plain.carries("color", "red"))
    assert data.fingerprint != plain.fingerprint
    again = build(cfg.DataConfig(size=400, unlabelled={"color": 0.3}))
    assert data.fingerprint == again.fingerprint


def test_without_an_attribute_no_condition_and_no_caption_names_it():
    plain = build(cfg.DataConfig(size=40))
    words = zip(*plain.raw.attributes.values(), strict=True)
    prompts = tuple(f"a {color} {shape} on white" for shape, color in words)
    data = replace(plain, raw=replace(plain.raw, prompts=prompts)).without("color")
    np.testing.assert_array_equal(data.train_conditions[:, data.conditions.blocks == 1], 0)
    np.testing.assert_array_equal(data.train_conditions[:, :2], plain.train_conditions[:, :2])
    shapes = plain.raw.attributes["shape"]
    assert data.captions == tuple(f"a {shape} on white" for shape in shapes)
    assert data.without("shape").train_conditions.sum() == 0
    assert data.most_named == 1


def test_a_caption_whose_words_are_not_found_still_names_the_value():
    """It stays whole. What is silent, or lacks what it says is not there, names nothing."""
    plain = build(cfg.DataConfig(size=4))
    raw = replace(
        plain.raw,
        attributes={"cat": ("grey", "grey", "grey", "no"), "beard": ("no", "no", "yes", "yes")},
        prompts=("a grey cat", "two greyish cats", "", "without a beard"),
    )
    names = Conditions({"cat": ("grey", "no"), "beard": ("no", "yes")})
    data = replace(plain, raw=raw, conditions=names, by_caption=True).without("cat")
    assert data.captions == ("", "two greyish cats", "", "without a beard")
    assert data.named("cat").tolist() == [False, True, False, False]
    assert data.train_conditions[:, 0].tolist() == [0, 1, 0, 0], "labels find it"
    assert data.without("beard").named("beard").tolist() == [False] * 4
    codes = replace(data, by_caption=False)
    assert not codes.named("cat").any()


@pytest.mark.parametrize(
    ("name", "message"), [("size", "is not in the data set"), ("color", "cond")]
)
def test_an_attribute_that_is_no_condition_cannot_be_unlabelled(name, message):
    with pytest.raises(UsageError, match=message):
        build(cfg.DataConfig(size=40, condition_on=("shape",), unlabelled={name: 0.5}))


def test_a_column_that_is_no_condition_groups_the_training_images(tmp_path):
    """Two artists, and an image whose cell is empty; the column conditions nothing."""
    (tmp_path / "images.npy").parent.mkdir(exist_ok=True)
    np.save(tmp_path / "images.npy", np.zeros((5, 4, 4, 3), np.uint8))
    rows = ["0,a,Vera", "1,b,Anna", "2,a,", "3,b,Vera", "4,a,Anna"]
    (tmp_path / "attributes.csv").write_text("\n".join(["index,style,artist", *rows, ""]))
    config = cfg.DataConfig(kind="folder", path=tmp_path, condition_on=("style",))
    whole = build(config)
    assert set(whole.raw.attributes) == {"style"}
    assert whole.grouped("artist") == (("(none)", "Anna", "Vera"), pytest.approx([2, 1, 0, 2, 1]))
    part = replace(whole, train_index=np.array([1, 2, 4]))
    names, numbers = part.grouped("artist")
    assert names == ("(none)", "Anna")
    np.testing.assert_array_equal(numbers, [1, 0, 1])
    np.testing.assert_array_equal(whole.grouped("style").numbers, [0, 1, 0, 1, 0])
    with pytest.raises(UsageError, match=r"'licence' is no column .* \['style', 'artist'\]"):
        whole.grouped("licence")
