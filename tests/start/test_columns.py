"""Which attributes are taken: a truth per rule."""

import pytest

from ctrak_jax.start.columns import MOST_ATTRIBUTES, Selected, evenness, named_in_captions, select
from ctrak_jax.start.look import Attribute
from tests.start.folders import COUNT, HAIR, STYLE


def of(**columns: list[str]) -> Selected:
    return select([Attribute(name, tuple(values)) for name, values in columns.items()])


def names(found: Selected) -> list[str]:
    return [column.name for column in found.chosen]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (["x"] * COUNT, "the same for all"),
        ([""] * COUNT, "empty for 60"),
        ([f"id-{i}" for i in range(COUNT)], "no class"),
        ([f"{i}" for i in range(COUNT)], "no class"),
        ([f"a house with {i} doors" for i in range(COUNT)], "name it caption"),
        ([f"{i / 7:.2f}" for i in range(30)] * 2, "different numbers"),
        (["train"] * 50 + ["test"] * 10, "parts of the data"),
        (["", "a", "b", "c"] * 15, "empty for 15 of 60"),
        (["a"] * 59 + ["b"], "too rare"),
        ([f"v{i}" for i in range(12)] * 5, "too rare: 0 of 60"),
    ],
    ids=lambda v: v if isinstance(v, str) else v[0],
)
def test_an_attribute_is_left_out_with_its_reason(values, reason):
    found = of(style=STYLE, odd=values)
    assert names(found) == ["style"]
    assert reason in found.left_out["odd"]


@pytest.mark.parametrize(
    "values", [STYLE, HAIR, [str(i % 5) for i in range(COUNT)], ["yes"] * 50 + ["no"] * 10]
)
def test_classes_are_taken_numbers_among_them(values):
    assert names(of(found=values)) == ["found"]


def test_of_two_columns_that_say_the_same_the_first_is_taken():
    numbers = [str(["voxel", "micah", "pixel"].index(value)) for value in STYLE]
    found = of(style=STYLE, hair=HAIR, style_number=numbers)
    assert names(found) == ["style", "hair"]
    assert "same as style" in found.left_out["style_number"]


def test_many_values_are_better_than_no_attribute():
    many = [f"v{i}" for i in range(60)] * 10
    other = ["a", "b"] * 300
    assert names(of(many=many)) == ["many"]
    assert names(of(many=many, other=other)) == ["other"]


def test_the_most_even_attributes_are_taken_in_the_order_of_the_table():
    even = {f"a{i}": [str((k >> i) & 1) for k in range(1024)] for i in range(MOST_ATTRIBUTES)}
    uneven = ["yes"] * 20 + ["no"] * 1004
    found = of(**{"first": uneven, **even})
    assert names(found) == list(even)
    assert list(found.left_out) == ["first"]


def test_evenness_is_the_entropy_in_bits():
    assert evenness(Attribute("a", ("x", "y", "z", "w"))) == 2.0
    assert evenness(Attribute("a", ("x", "x", "x", "x", ""))) == 0.0


def test_rare_values_and_empty_cells_are_said():
    values = ["red"] * 30 + ["blue"] * 26 + ["odd"] * 3 + [""]
    found = of(hair=values)
    assert names(found) == ["hair"]
    assert "odd (3)" in found.remarks[0]
    assert "1 empty cells" in found.remarks[1]


def test_captions_must_say_what_is_asked_about():
    """Not every combination occurs, so words have to say what another value would read like."""
    hair = ["red"] * 40 + ["blue"] * 20
    style = ["voxel"] * 20 + ["micah"] * 40
    captions = [f"a portrait with {value} hair" for value in hair]
    found = named_in_captions(of(hair=hair, style=style), captions)
    assert names(found) == ["hair"]
    assert "do not name it" in found.left_out["style"]
    whole = of(hair=HAIR, style=STYLE)
    assert named_in_captions(whole, ["a portrait"] * COUNT) == whole, (
        "every combination has a caption"
    )
