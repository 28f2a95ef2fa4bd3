"""Values that are missing in a table, and samples without them."""

import json

import numpy as np
import pytest

from ctrak_jax.data import read_folder, write_folder
from ctrak_jax.data.folder.tables import MISSING
from ctrak_jax.data.raw import RawImages
from ctrak_jax.data.survey import Handling
from ctrak_jax.errors import UsageError
from tests.data.samples import drawn, refused
from tests.data.wild import Numbering, by_index, caption, loose, number, put, style

AT = Numbering(12)
SKIP = Handling(incomplete="skip")


def table_of_names(path, cell: str) -> None:
    lines = [f"{n}.png,{cell if n == 5 else style(n)},x\n" for n in AT.every]
    put(path / "attributes.csv", "file_name,style,hair\n" + "".join(lines))


def table_by_index(path, cell: str) -> None:
    lines = [f"{n},{cell if n == 5 else style(n)},x\n" for n in AT.every]
    put(path / "attributes.csv", "index,style,hair\n" + "".join(lines))


def records(path, cell: str) -> None:
    value = json.loads(cell) if cell in ("NaN", "null") else cell.strip('"')
    lines = [
        {"file_name": f"{n}.png", "hair": "x", "style": value if n == 5 else style(n)}
        for n in AT.every
    ]
    put(path / "attributes.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(
    ("write", "cell"),
    [
        (table_of_names, ""),
        (table_of_names, '" "'),
        (table_by_index, ""),
        (table_by_index, '""'),
        (table_of_names, "NaN"),
        (table_by_index, "NA"),
        (table_by_index, "null"),
        (records, ""),
        (records, "NaN"),
        (records, "null"),
    ],
)
def test_an_empty_cell_is_a_missing_value(tmp_path, write, cell):
    loose(tmp_path, AT)
    write(tmp_path, cell)
    assert "images/5.png: has no 'style', which 11 others have" in refused(tmp_path)
    raw = read_folder(tmp_path, handling=SKIP)
    left = [number(image) for image in np.asarray(raw.images[:])]
    assert left == [n for n in AT.every if n != 5]
    assert raw.attributes["style"] == tuple(map(style, left))


def test_a_column_without_any_value_is_no_attribute(tmp_path):
    by_index(tmp_path, AT)
    lines = [f"{n},,{style(n)}\n" for n in AT.every]
    put(tmp_path / "attributes.csv", "index,notes,style\n" + "".join(lines))
    assert set(read_folder(tmp_path).attributes) == {"style"}


@pytest.mark.parametrize("word", MISSING)
def test_in_quotation_marks_and_in_names_such_a_word_is_a_text(tmp_path, word):
    loose(tmp_path, AT)
    lines = [f'{n},"{word}"\n' for n in AT.every]
    put(tmp_path / "attributes.csv", f"index,{word}\n" + "".join(lines))
    assert read_folder(tmp_path).attributes == {word: (word,) * AT.count}


def test_what_the_config_does_not_name_may_be_missing(tmp_path):
    loose(tmp_path, AT)
    table_of_names(tmp_path, "")
    raw = read_folder(tmp_path, wanted=("hair",))
    assert raw.attributes == {"hair": ("x",) * AT.count}
    assert "images/5.png: has no 'style'" in refused(tmp_path, wanted=("style",))


def test_rows_of_absent_pictures_do_not_count(tmp_path):
    """Of six pictures four have a value, of the table's twelve rows four."""
    loose(tmp_path, Numbering(6))
    lines = [f"{n}.png,{style(n) if 2 <= n < 6 else ''}\n" for n in AT.every]
    put(tmp_path / "attributes.csv", "file_name,style\n" + "".join(lines))
    assert "names '6.png'" in refused(tmp_path)
    raw = read_folder(tmp_path, handling=SKIP)
    assert raw.attributes == {"style": tuple(map(style, range(2, 6)))}


@pytest.mark.parametrize("value", ["", " \n"])
def test_an_empty_value_is_not_written(tmp_path, value):
    """It would be read back as missing."""
    raw = RawImages(name="a", images=drawn(size=2).images, attributes={"style": ("x", value)})
    with pytest.raises(UsageError, match="image 1 has an empty value of 'style'"):
        write_folder(raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_captions_alone_are_read_as_they_were_written(tmp_path):
    prompts = tuple(map(caption, range(3)))
    raw = RawImages(name="a", images=drawn(size=3).images, attributes={}, prompts=prompts)
    write_folder(drawn(size=3), tmp_path)
    write_folder(raw, tmp_path)
    found = read_folder(tmp_path)
    assert (found.attributes, found.prompts) == ({}, prompts)
