"""Questions: the table on disk, and the condition without the concept."""

import re
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrak_jax import config as cfg
from ctrak_jax.data import build
from ctrak_jax.devices import local_mesh
from ctrak_jax.errors import StoreError
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.query import combinations
from ctrak_jax.stages.query_rows import stacked
from ctrak_jax.stages.questions import HEADER, Question, combination_names, minus_of, read, write

COLORS = ("red", "blue", "green", "yellow")


def context(
    root: Path,
    minus: Literal["others", "other", "null"],
    query: dict[str, int] | None = None,
    **data,
) -> Context:
    sections = {"colors": COLORS, "size": 16, "image_size": 8} | data
    asked = cfg.QueryConfig(minus=minus, **(query or {}))  # type: ignore[arg-type]
    config = cfg.Config(data=cfg.DataConfig(**sections), query=asked)
    data_set, mesh = build(config.data), local_mesh(1)
    return Context(
        config=config, root=root, seed=0, training_set=data_set, dataset=data_set, mesh=mesh
    )


# Names


def test_combinations_keep_names_of_their_own():
    def named(*pairs: tuple[str, str]) -> list[str]:
        return combination_names([{"style": style, "hair": hair} for style, hair in pairs])

    assert named(("voxel-art", "red"), ("micah", "red")) == ["voxel-art-red", "micah-red"]
    alike = named(("a-b", "c"), ("a", "b-c"), ("a/b", "c"), ("a:b", "c"), ("a", "c"))
    assert len(set(alike)) == 5
    assert alike[-1] == "a-c"
    assert all(re.fullmatch(r"[A-Za-z0-9._+-]+", name) for name in alike)


# The table

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789 _.-,\"'äß", min_size=1, max_size=8)


@st.composite
def questions(draw, text=names):
    condition = draw(st.dictionaries(text, text, min_size=1, max_size=3))
    attribute = draw(st.sampled_from(sorted(condition)))
    minus = {k: v for k, v in condition.items() if k != attribute}
    if draw(st.booleans()):
        minus |= {attribute: draw(text)}
    return Question(
        query=draw(text),
        condition=condition,
        attribute=attribute,
        minus=minus,
        scope=draw(st.sampled_from(["local", "global"])),
        scenario=draw(st.sampled_from(["id", "ood"])),
        split=draw(st.sampled_from(["validation", "report"])),
        image=draw(text),
    )


@settings(max_examples=60, deadline=None)
@given(asked=st.lists(questions(), max_size=4))
def test_questions_come_back(tmp_path_factory, asked):
    path = tmp_path_factory.mktemp("table") / "queries.csv"
    write(path, asked)
    assert read(path) == asked


@pytest.mark.parametrize("value", ["a;b", "a=b", "", "a;b=c", "two\nlines", "=", ";"])
def test_any_value_of_a_users_table_comes_back(tmp_path, value):
    """Values are text: attributes.csv forbids none of these."""
    asked = [
        Question(
            query="q",
            condition={"style": value, "color": "red"},
            attribute="style",
            minus={"color": "red"},
            scope="local",
            scenario="id",
            split="report",
            image="q.png",
        )
    ]
    write(tmp_path / "queries.csv", asked)
    assert read(tmp_path / "queries.csv") == asked


def one(**changes) -> Question:
    settings = {
        "query": "triangle-red-00",
        "condition": {"shape": "triangle", "color": "red"},
        "attribute": "color",
        "minus": {"shape": "triangle"},
        "scope": "local",
        "scenario": "ood",
        "split": "report",
        "image": "images/triangle-red-00.png",
    }
    return Question(**(settings | changes))


def test_the_table_names_its_columns_and_the_concept(tmp_path):
    write(tmp_path / "q.csv", [one()])
    header, row = (tmp_path / "q.csv").read_text().splitlines()
    assert header.split(",") == list(HEADER)
    assert row == (
        "triangle-red-00,shape=triangle;color=red,color=red,shape=triangle,"
        "local,ood,report,images/triangle-red-00.png"
    )


def test_a_missing_table_names_the_command(tmp_path):
    with pytest.raises(StoreError, match="ctrak query"):
        read(tmp_path / "none.csv")


@pytest.mark.parametrize(
    "content",
    [
        b"query,condition\nq,shape=triangle\n",
        b"something else\n1\n",
        b"query,condition,concept,minus,scope,scenario,split,image\nq,shape,color=red,,local,id,report,i\n",
        b"query,condition,concept,minus,scope,scenario,split,image\nq,color=red\n",
        b"query,condition,concept,minus,scope,scenario,split,image\n\xff\xfe,color=red,color=red,,local,id,report,i\n",
        b"query,condition,concept,minus,scope,scenario,split,image\nq,color=red,color=red,,local,id\n",
    ],
    ids=["columns missing", "no table", "no value", "cut off", "not text", "cut off late"],
)
def test_a_damaged_table_is_named(tmp_path, content):
    path = tmp_path / "queries.csv"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"queries\.csv is damaged"):
        read(path)


# The condition without the concept


def test_null_leaves_the_attribute_out(tmp_path):
    ctx = context(tmp_path, "null")
    for values in ctx.conditions.combinations():
        for attribute in values:
            ((minus, _),) = minus_of(ctx, values, attribute)
            assert minus == {k: v for k, v in values.items() if k != attribute}
            block = ctx.conditions.encode(minus)[
                ctx.conditions.blocks == ctx.conditions.attributes.index(attribute)
            ]
            assert not block.any()


def test_other_changes_the_attribute_and_nothing_else(tmp_path):
    ctx = context(tmp_path, "other")
    for values in ctx.conditions.combinations():
        for attribute in values:
            ((minus, _),) = minus_of(ctx, values, attribute)
            assert list(minus) == list(values), "in the order of the condition"
            assert minus[attribute] in ctx.conditions.vocabulary[attribute]
            assert [k for k in values if minus[k] != values[k]] == [attribute]
            ((again, _),) = minus_of(ctx, dict(values), attribute)
            assert again == minus, "fixed by the combination"


def test_other_values_are_all_chosen_by_some_combination(tmp_path):
    """Over 8 shapes x 4 colours every ordered pair of colours occurs but by bad luck: a fixed
    choice (always the first other) would give 4 or 6 of the 12."""
    shapes = ("triangle", "circle", "square", "star", "pentagon", "hexagon", "diamond", "cross")
    ctx = context(tmp_path, "other", shapes=shapes)
    pairs = {
        (values["color"], minus_of(ctx, values, "color")[0].values["color"])
        for values in ctx.conditions.combinations()
    }
    assert len(pairs) >= 10


def test_an_attribute_of_one_value_has_no_other_and_becomes_null(tmp_path):
    ctx = context(tmp_path, "other", colors=("red",))
    found = minus_of(ctx, {"shape": "circle", "color": "red"}, "color")
    assert found == [({"shape": "circle"}, "")]


def test_the_values_given_are_left_alone(tmp_path):
    values = {"shape": "circle", "color": "red"}
    for minus in ("other", "null"):
        minus_of(context(tmp_path, minus), values, "color")
        assert values == {"shape": "circle", "color": "red"}


# The combinations asked about


def test_no_more_combinations_than_wanted_are_asked_about_in_either_scenario(tmp_path):
    """Of six shapes in four colours all reds but one are held out."""
    shapes = ("triangle", "circle", "square", "star", "diamond", "cross")
    out = tuple({"shape": shape, "color": "red"} for shape in shapes[1:])
    data = {"shapes": shapes, "size": 48, "hold_out": out}

    def asked(limit: int, seed: int = 0) -> list[dict[str, str]]:
        ctx = context(tmp_path, "other", {"combinations": limit, "seed": seed}, **data)
        return combinations(ctx)

    assert len(asked(100)) == 24
    chosen = asked(3)
    assert chosen == asked(3)
    assert len(chosen) == 6
    assert [values in out for values in chosen] == [False] * 3 + [True] * 3
    assert all(values in asked(100) for values in chosen)
    assert len({tuple(c.items()) for c in chosen}) == 6
    assert len({str(asked(3, seed)) for seed in range(8)}) > 4, "the seed decides which"
    assert len(asked(10)) == 10 + 5


def test_a_concept_stands_against_all_other_values(tmp_path):
    ctx = context(tmp_path, "others")
    values = {"shape": "circle", "color": "red"}
    found = [told.values for told in minus_of(ctx, values, "color")]
    assert found == [{"shape": "circle", "color": c} for c in ("blue", "green", "yellow")]
    (told,) = minus_of(ctx, values, "shape")
    assert told.values == {"shape": "triangle", "color": "red"}


def test_fewer_alternatives_are_filled_up_without_weight():
    three, one = np.arange(6.0).reshape(3, 2), np.full((1, 2), 7.0)
    mixture = stacked([[three, one]])
    assert mixture.conditions.shape == (1, 2, 3, 2)
    np.testing.assert_allclose(mixture.weights, [[[1 / 3] * 3, [1, 0, 0]]], rtol=1e-6)
    mean = np.einsum("qca,qcav->qcv", mixture.weights, mixture.conditions)
    np.testing.assert_allclose(mean[0], [three.mean(0), one[0]], rtol=1e-6)
