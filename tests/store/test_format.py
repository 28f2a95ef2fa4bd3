"""The files of a store, read without our code."""

import json
import struct
from pathlib import Path

import numpy as np

from tests.store.stores import CHUNK, INDEX, KEY, ROWS, WIDTH, crc32c, values


def test_the_files_are_zarr_v3_with_crc32c(full):
    about = json.loads((Path(full.place) / "features" / "zarr.json").read_text())
    assert about["zarr_format"] == 3
    assert about["node_type"] == "array"
    assert about["data_type"] == "float32"
    assert about["shape"] == [ROWS, WIDTH]
    assert about["chunk_grid"]["configuration"]["chunk_shape"] == [CHUNK, WIDTH]
    assert [c["name"] for c in about["codecs"]] == ["bytes", "crc32c"]
    assert about["codecs"][0]["configuration"] == {"endian": "little"}
    rows = []
    for chunk in range(3):
        content = (Path(full.place) / "features" / "c" / str(chunk) / "0").read_bytes()
        data, check = content[:-4], content[-4:]
        assert len(data) == 4 * CHUNK * WIDTH
        assert struct.unpack("<I", check)[0] == crc32c(data)
        rows.append(np.frombuffer(data, "<f4").reshape(CHUNK, WIDTH))
    np.testing.assert_array_equal(np.concatenate(rows)[:ROWS], values())


def test_the_index_is_zarr_v3_int64(full):
    about = json.loads((Path(full.place) / "index" / "zarr.json").read_text())
    assert (about["zarr_format"], about["data_type"], about["shape"]) == (3, "int64", [ROWS])
    (file,) = [f for f in (Path(full.place) / "index" / "c").rglob("*") if f.is_file()]
    data, check = file.read_bytes()[:-4], file.read_bytes()[-4:]
    assert struct.unpack("<I", check)[0] == crc32c(data)
    np.testing.assert_array_equal(np.frombuffer(data, "<i8"), INDEX)


def test_the_crc32c_here_is_the_standard_one():
    assert crc32c(b"123456789") == 0xE3069283


def test_the_manifest_states_what_the_rows_are(full):
    manifest = json.loads((Path(full.place) / "manifest.json").read_text())
    assert manifest["key"] == KEY
    assert manifest["rows"] == ROWS
    assert manifest["complete"] == [0, 4, 8]
