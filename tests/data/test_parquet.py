"""Parquet files: their pictures, attributes and captions."""

import sys
from pathlib import Path

import numpy as np
import pytest

from ctrak_jax.data import read_folder
from ctrak_jax.data.folder import parquet
from tests.data.samples import ATTRIBUTES, COUNT, PICTURES, VALUES, encoded, picture, refused
from tests.data.wild import put


def write_parquet(tmp_path: Path, change=lambda columns: None, *, struct: bool = False) -> Path:
    """Two files with row groups of two; ``change`` edits the columns of the second before."""
    pa = pytest.importorskip("pyarrow", reason="needs the extra parquet")
    (tmp_path / "images").mkdir(exist_ok=True)
    for name, rows in (("a.parquet", range(4)), ("b.parquet", range(4, COUNT))):
        data = [encoded(PICTURES[i]) for i in rows]
        image = [{"bytes": d, "path": "x.png"} for d in data] if struct else data
        columns = {"image": image, "caption": [f"number {i}" for i in rows]}
        columns |= {key: [VALUES[i][key] for i in rows] for key in VALUES[0]}
        columns["score"] = [0.5 for _ in rows]
        if name == "b.parquet":
            change(columns)
        pa.parquet.write_table(pa.table(columns), tmp_path / "images" / name, row_group_size=2)
    return tmp_path


@pytest.fixture(autouse=True)
def _parquet_module():
    pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")


@pytest.mark.parametrize("struct", [False, True])
def test_parquet_brings_pictures_attributes_and_captions(tmp_path, struct):
    found = read_folder(write_parquet(tmp_path, struct=struct))
    np.testing.assert_array_equal(found.images[:], PICTURES)
    for i in (5, 0, 3, 6):
        np.testing.assert_array_equal(found.images[i], PICTURES[i])
    assert found.attributes == ATTRIBUTES | {"score": ("0.5",) * COUNT}
    assert found.prompts == tuple(f"number {i}" for i in range(COUNT))


def test_every_column_of_text_or_numbers_is_read_and_the_others_are_named(tmp_path, warned):
    import pyarrow as pa
    from pyarrow import parquet as written

    styles = [str(v["style"]) for v in VALUES]
    columns = {
        "image": [encoded(picture) for picture in PICTURES],
        "category": pa.array(styles).dictionary_encode(),
        "view": pa.array(styles, pa.string_view()),
        "size": pa.array([float(i % 2) for i in range(COUNT)]),
        "boxes": [[i, i] for i in range(COUNT)],
    }
    put(tmp_path / "images/a.parquet", b"")
    written.write_table(pa.table(columns), tmp_path / "images/a.parquet")
    found = read_folder(tmp_path).attributes
    sizes = tuple(str(i % 2) for i in range(COUNT))
    assert found == {"category": tuple(styles), "view": tuple(styles), "size": sizes}
    (line,) = warned
    assert line.endswith(": boxes")


def test_a_batch_reads_each_row_group_once(tmp_path, monkeypatch):
    from pyarrow.parquet import ParquetFile

    monkeypatch.setattr(parquet, "CACHED_ROW_GROUPS", 1)
    images = read_folder(write_parquet(tmp_path)).images
    read, plain = [], ParquetFile.read_row_group

    def counted(self, number, **options):
        assert options == {"columns": ["image"]}
        read.append(number)
        return plain(self, number, **options)

    monkeypatch.setattr(ParquetFile, "read_row_group", counted)
    rows = np.array([6, 0, 5, 1, 4, 0])
    np.testing.assert_array_equal(images[rows], PICTURES[rows])
    assert len(read) == 1 + 1 + 1, "rows 0 and 1, 4 and 5, 6"


def test_files_are_read_in_the_order_in_which_people_count(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="needs the extra parquet")
    (tmp_path / "images").mkdir()
    for n in range(12):
        table = pa.table({"image": [encoded(picture(n))]})
        pa.parquet.write_table(table, tmp_path / f"images/part-{n}.parquet")
    put(tmp_path / "prompts.txt", "".join(f"{n}\n" for n in range(12)))
    found = read_folder(tmp_path)
    np.testing.assert_array_equal(found.images[:], [picture(n) for n in range(12)])


PARQUET = {
    "no image column": (lambda c: c.pop("image"), ("b.parquet", "'image'")),
    "image of text": (lambda c: c.update(image=["x"] * 3), ("b.parquet", "'image'", "binary")),
    "a column missing": (lambda c: c.pop("style"), ("b.parquet", "'style'", "a.parquet")),
    "a value null": (
        lambda c: c.update(style=["voxel", None, "pixel"]),
        ("b.parquet", "'style'", "row 1"),
    ),
    "an image null": (
        lambda c: c.update(image=[c["image"][0], None, c["image"][2]]),
        ("b.parquet", "row 1 of row group 0", "no image bytes"),
    ),
    "an image broken": (
        lambda c: c.update(image=[*c["image"][:2], b"x"]),
        ("b.parquet", "row 0 of row group 1", "readable image"),
    ),
}


@pytest.mark.parametrize(("change", "words"), PARQUET.values(), ids=PARQUET.keys())
def test_what_is_wrong_with_parquet_is_one_clear_line(tmp_path, change, words):
    message = refused(write_parquet(tmp_path, change))
    assert all(word in message for word in words), message


def test_files_beside_parquet_fill_in_what_is_null(tmp_path):
    def spoil(columns):
        columns.update(style=[None, "a", "b"], caption=["number 4", None, "number 6"])

    write_parquet(tmp_path, spoil)
    rows = "".join(f"{i},{i}\n" for i in range(COUNT))
    (tmp_path / "attributes.csv").write_text(f"index,number\n{rows}")
    (tmp_path / "prompts.txt").write_text("".join(f"number {i}\n" for i in range(COUNT)))
    found = read_folder(tmp_path)
    np.testing.assert_array_equal(found.images[:], PICTURES)
    assert found.attributes == {"number": tuple(map(str, range(COUNT)))}
    assert found.prompts == tuple(f"number {i}" for i in range(COUNT))
    (tmp_path / "prompts.txt").write_text("p\n" * COUNT)
    message = refused(tmp_path)
    assert "prompts.txt:1" in message
    assert "a.parquet: row 0" in message


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    write_parquet(tmp_path)
    (tmp_path / "images" / "b.parquet").write_bytes(b"no table" * 30)
    assert "b.parquet: not a readable Parquet file" in refused(tmp_path)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    write_parquet(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'ctrak-jax[parquet]'" in refused(tmp_path)
