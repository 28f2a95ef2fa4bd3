"""The table of questions, and the names of combinations."""

import csv
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrak_jax.errors import StoreError
from ctrak_jax.run.questions import (
    HEADER,
    Question,
    combination_names,
    read_questions,
    write_questions,
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
        mask=draw(st.sampled_from(["", "masks/q@left.png"])),
    )


@settings(max_examples=60, deadline=None)
@given(asked=st.lists(questions(), max_size=4))
def test_questions_come_back(tmp_path_factory, asked):
    path = tmp_path_factory.mktemp("table") / "queries.csv"
    write_questions(path, asked)
    assert read_questions(path) == asked


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
    write_questions(tmp_path / "queries.csv", asked)
    assert read_questions(tmp_path / "queries.csv") == asked


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
    write_questions(tmp_path / "q.csv", [one()])
    with (tmp_path / "q.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert list(row) == list(HEADER)
    assert json.loads(row["condition"]) == {"shape": "triangle", "color": "red"}
    assert json.loads(row["concept"]) == {"color": "red"}
    assert json.loads(row["minus"]) == {"shape": "triangle"}
    assert row["image"] == "images/triangle-red-00.png"


def test_a_missing_table_names_the_command(tmp_path):
    with pytest.raises(StoreError, match="ctrak query"):
        read_questions(tmp_path / "none.csv")


RIGHT = [
    '"{""color"": ""red""}"', '"{""color"": ""red""}"', "{}", "local", "id", "report", "i"
]  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        "query,condition\nq,{}\n",
        "something else\n1\n",
        ["color=red", *RIGHT[1:]],
        ["[]", *RIGHT[1:]],
        ["{}", *RIGHT[1:]],
        [RIGHT[0], "{}", *RIGHT[2:]],
        ['"{""color"": 3}"', *RIGHT[1:]],
        RIGHT[:2],
        RIGHT[:-1],
    ],
    ids=[
        "columns missing",
        "no table",
        "no JSON",
        "no object",
        "lacks the concept",
        "no concept",
        "no text",
        "cut off",
        "cut off late",
    ],
)
def test_a_damaged_table_is_named(tmp_path, content):
    path = tmp_path / "queries.csv"
    if not isinstance(content, str):
        content = f"{','.join(HEADER)}\n{','.join(['q', *content])}\n"
    path.write_text(content)
    with pytest.raises(StoreError, match=r"queries\.csv is damaged.*run `ctrak query`"):
        read_questions(path)
    path.write_text(f"{','.join(HEADER)}\n{','.join(['q', *RIGHT])}\n")
    assert read_questions(path)[0].value == "red", "the table is right but for what was changed"


@pytest.mark.parametrize("end", [b"", b"\xff\xfe\n"], ids=["cut off", "not text"])
def test_a_table_that_ends_badly_is_named(tmp_path, end):
    path = tmp_path / "queries.csv"
    write_questions(path, [one()])
    path.write_bytes(path.read_bytes()[:-1] + end)
    with pytest.raises(StoreError, match=r"queries\.csv is damaged"):
        read_questions(path)
