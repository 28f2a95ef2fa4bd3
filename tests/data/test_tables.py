"""Tables of text: the same cells whatever wrote them; what is wrong names file and line."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrak_jax.data.folder.names import NameIndex, counted, is_leftover
from ctrak_jax.data.folder.tables import DELIMITERS, read_table
from ctrak_jax.data.folder.writer import _row
from ctrak_jax.errors import UsageError

values = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("tables") / "attributes.csv"


def read(file, text: str | bytes):
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(file)


@given(table=st.lists(st.tuples(values, values), min_size=1), sign=st.sampled_from(DELIMITERS))
def test_what_a_csv_writer_quotes_is_read_as_it_was(file, table, sign):
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=sign, quoting=csv.QUOTE_ALL)
    writer.writerows([("index", "a", "b"), *((str(i), *row) for i, row in enumerate(table))])
    found = read(file, stream.getvalue())
    assert found.columns == ("a", "b")
    assert [(row.values["a"], row.values["b"]) for row in found.rows] == table


@given(table=st.lists(st.tuples(values, values), min_size=1))
def test_what_the_writer_writes_is_read_as_it_was(file, table):
    lines = [_row(("index", "a", "b")), *(_row((str(i), *row)) for i, row in enumerate(table))]
    found = read(file, "".join(lines))
    assert [(row.values["a"], row.values["b"]) for row in found.rows] == table


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("attributes.csv", "'index,<attribute>,...'")),
        ("\n\n", ("attributes.csv", "index,")),
        ("a,b\n1,2\n", ("first line", "file_name")),
        ("index\n0\n", ("no column",)),
        ("index,a,a\n0,1,2\n", ("csv:1", "'a' is given twice")),
        ("index,a\n0,1\n\n1\n", ("csv:4", "'1'", "index 1", "2 values")),
        ("index,a\n0,1,2\n", ("csv:2", "2 values")),
        ("index,,b\n0,1,2\n", ("column 2 has no name",)),
        ("index  a\n0 1\n1 2 3\n", ("csv:3", "2 values")),
        ('index,a\n0,"x\n1,y\n', ("csv:2", "quotation mark")),
        ('index,a\n0,"x" y\n', ("csv:2", "quotation mark")),
        ("index,a\n0,\xff\n".encode("latin-1"), ("not UTF-8",)),
    ],
    ids=range(12),
)
def test_what_is_wrong_is_one_line(file, text, words):
    with pytest.raises(UsageError) as caught:
        read(file, text)
    message = str(caught.value)
    assert message.splitlines() == [message]
    assert all(word in message for word in words), message


@pytest.mark.parametrize("sign", [":", "^", "/", "]", "   ", " \t", "~"])
def test_any_sign_parts_values(file, sign):
    found = read(file, f"index{sign}a\n0{sign}x\n")
    assert [row.values for row in found.rows] == [{"a": "x"}]


def test_lines_are_counted_through_values_of_several_lines(file):
    found = read(file, 'index,a\r\n0,"x\r\ny"\r\n\r\n1,z\r\n')
    assert [row.line for row in found.rows] == [2, 5]


def test_empty_columns_at_the_right_are_none(file):
    found = read(file, "index;a;;\n0;x;;\n1;y;;\n")
    assert found.columns == ("a",)


@pytest.mark.parametrize(
    "names",
    [
        ["2.png", "10.png"],
        ["a2b3.png", "a2b20.png", "a10b1.png"],
        ["2/9.png", "10/1.png", "10/2.png"],
        ["000001.png", "000002.png", "000010.png"],
        ["10 b.PNG", "Zoë.jpg", "a.webp", "c.jpeg"],
        ["01.png", "1.png", "2.png", "10.png"],
        ["2/10ab34cd56ef.png", "2/9fab34cd00ef.png", "10/9fab34cd56ef.png"],
    ],
)
def test_names_are_sorted_as_people_count(names):
    shuffled = sorted(names)[::-1]
    assert [shuffled[place] for place in counted(shuffled)] == names


def test_a_name_of_many_digits_is_sorted_as_its_number():
    names = ["2.png", f"{'0' * 5000}3.png", f"{'9' * 5000}.png", f"1{'0' * 5000}.png"]
    assert [names[::-1][place] for place in counted(names[::-1])] == names


def test_names_that_are_hashes_hold_no_numbers():
    names = ["10ab34cd56ef.png", "9fab34cd56ef.png", "9fab34cd00ef.png"]
    assert [names[place] for place in counted(names)] == sorted(names)


@given(st.lists(st.integers(0, 10**6 - 1), min_size=1, unique=True))
def test_numbers_with_zeros_in_front_are_sorted_as_text(numbers):
    names = [f"{n:06d}.png" for n in numbers]
    assert [names[place] for place in counted(names)] == sorted(names)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/3.png", [0]),
        ("./a/3.png", [0]),
        ("A\\3.PNG", [0]),
        ("3.png", [0, 1]),
        ("c/é.png", [2]),
        ("c/e\u0301.png", [2]),
        ("É.png", [2]),
        ("x/a/3.png", []),
        ("a/3", [0]),
        ("3", [0, 1]),
        ("É", [2]),
        ("13.png", []),
    ],
)
def test_a_name_means_the_pictures_that_end_so(name, expected):
    assert NameIndex(["a/3.png", "b/3.png", "c/e\u0301.png"]).find(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("._3.png", True),
        ("a/.DS_Store", True),
        ("__MACOSX/3.png", True),
        ("thumbs.DB", True),
        ("3.png", False),
        ("a.b/3..png", False),
    ],
)
def test_leftovers_are_known_by_their_names(name, expected):
    assert is_leftover(name) == expected
