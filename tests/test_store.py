"""The feature store: what is written is read, and nothing damaged, partial or foreign passes."""

import json
import os
import struct
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrak_jax.errors import StoreError
from ctrak_jax.store import FeatureStore, read_manifest, read_scores, write_scores

KEY = {"loss": "dsm", "seed": 0, "projection": {"kind": "rademacher", "k": 5}}
ROWS, WIDTH, CHUNK = 10, 5, 4
INDEX = 3 * np.arange(ROWS) + 1


def create(path: Path, key=KEY, **changes) -> FeatureStore:
    settings = {"index": INDEX, "widths": {"features": WIDTH}, "chunk": CHUNK} | changes
    return FeatureStore.create(path, key, **settings)


def values(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(ROWS, WIDTH)).astype(np.float32)


def fill(store: FeatureStore, data: np.ndarray) -> None:
    for rows in store.missing:
        store.write(rows, {"features": data[rows.start : rows.stop]})
    store.seal()


def flip(file: Path, place: int, bits: int = 0x01) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= bits
    file.write_bytes(bytes(content))


def crc32c(data: bytes) -> int:
    """Castagnoli's CRC bit by bit, from its definition."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.fixture
def full(tmp_path) -> FeatureStore:
    store = create(tmp_path / "store")
    fill(store, values())
    return store


# Writing and reading


def test_rows_come_back_with_their_dataset_index(full):
    np.testing.assert_array_equal(full.read(), values())
    np.testing.assert_array_equal(full.index, INDEX)
    again = FeatureStore.open(Path(full.place), KEY)
    np.testing.assert_array_equal(again.read(), values())
    np.testing.assert_array_equal(again.index, INDEX)
    assert not again.missing
    again.verify()


def test_arrays_of_a_store_keep_apart(tmp_path):
    store = create(tmp_path / "s", widths={"features": WIDTH, "errors": 3})
    errors = np.random.default_rng(1).uniform(size=(ROWS, 3)).astype(np.float32)
    for rows in store.chunks:
        part = slice(rows.start, rows.stop)
        store.write(rows, {"features": values()[part], "errors": errors[part]})
    np.testing.assert_array_equal(store.read("features"), values())
    np.testing.assert_array_equal(store.read("errors"), errors)


@pytest.mark.parametrize(("rows", "starts"), [(1, [0, 4, 8]), (9, [0, 8]), (100, [0])])
def test_blocks_are_whole_chunks_in_order(full, rows, starts):
    blocks = [(span, block.copy()) for span, block in full.blocks("features", rows)]
    assert [span.start for span, _ in blocks] == starts
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), values())


def test_a_block_holds_until_the_next_is_asked_for(full):
    for span, block in full.blocks("features", CHUNK):
        time.sleep(0.01)  # the next one is being read meanwhile
        np.testing.assert_array_equal(block, values()[span.start : span.stop])


def test_blocks_name_a_damaged_chunk_and_refuse_a_partial_store(full, tmp_path):
    flip(Path(full.place) / "features" / "c" / "1" / "0", 0)
    with pytest.raises(StoreError, match=r"chunk 1 \(rows 4..7\) is damaged"):
        list(full.blocks("features", 8))
    with pytest.raises(StoreError, match="3 of 3 chunks are missing"):
        list(create(tmp_path / "empty").blocks("features", 8))


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 12), chunk=st.integers(1, 14), data=st.data())
def test_any_order_of_chunks_over_any_number_of_sessions(tmp_path_factory, rows, chunk, data):
    path = tmp_path_factory.mktemp("order") / "store"
    index = np.arange(rows)
    wanted = np.random.default_rng(rows).normal(size=(rows, 2)).astype(np.float32)
    store = create(path, index=index, widths={"features": 2}, chunk=chunk)
    assert [i for part in store.chunks for i in part] == list(range(rows))
    for part in data.draw(st.permutations(store.chunks)):
        if data.draw(st.booleans()):
            store = create(path, index=index, widths={"features": 2}, chunk=chunk)
        before = len(store.missing)
        store.write(part, {"features": wanted[part.start : part.stop]})
        store.flush()
        assert len(store.missing) == before - 1
    np.testing.assert_array_equal(store.read(), wanted)


def test_zeros_are_values_like_any_other(tmp_path):
    store = create(tmp_path / "s")
    fill(store, np.zeros((ROWS, WIDTH), np.float32))
    store.verify()
    np.testing.assert_array_equal(FeatureStore.open(Path(store.place), KEY).read(), 0.0)


def test_a_chunk_of_another_shape_is_refused(tmp_path):
    store = create(tmp_path / "s")
    for wrong in (values()[:3], values()[:4, :2], values()[:1]):
        with pytest.raises(StoreError):
            store.write(store.chunks[0], {"features": wrong})
    assert store.missing == store.chunks


def test_a_chunk_is_complete_only_with_all_its_arrays(tmp_path):
    store = create(tmp_path / "s", widths={"features": WIDTH, "errors": 3})
    with pytest.raises(StoreError):
        store.write(store.chunks[0], {"features": values()[:CHUNK]})
    assert store.missing == store.chunks


# Resuming


def test_reading_before_all_is_written_is_refused(tmp_path):
    store = create(tmp_path / "s")
    store.write(store.chunks[1], {"features": values()[4:8]})
    with pytest.raises(StoreError, match="2 of 3 chunks"):
        store.read()
    with pytest.raises(StoreError, match="2 of 3 chunks"):
        FeatureStore.open(Path(store.place), KEY).read()


def test_a_second_session_goes_on_where_the_first_was(tmp_path):
    first = create(tmp_path / "s")
    first.write(first.chunks[2], {"features": values()[8:]})
    first.flush()
    second = create(tmp_path / "s")
    assert second.missing == first.chunks[:2]
    fill(second, values())
    np.testing.assert_array_equal(second.read(), values())


def test_killed_between_the_data_and_the_mark(tmp_path):
    store = create(tmp_path / "s")
    store.write(store.chunks[0], {"features": values(seed=1)[:CHUNK]})
    store.flush()
    (Path(store.place) / "complete" / "0").unlink()

    again = create(Path(store.place))
    assert again.missing == again.chunks
    fill(again, values())
    np.testing.assert_array_equal(again.read(), values())


def test_killed_in_the_middle_of_the_data(tmp_path):
    store = create(tmp_path / "s")
    store.write(store.chunks[0], {"features": values()[:CHUNK]})
    store.flush()
    file = Path(store.place) / "features" / "c" / "0" / "0"
    file.write_bytes(file.read_bytes()[:11])
    (Path(store.place) / "complete" / "0").unlink()

    again = create(Path(store.place))
    again.verify()  # a chunk that is not listed is nobody's business
    fill(again, values())
    np.testing.assert_array_equal(again.read(), values())


def test_killed_while_the_manifest_was_written(full):
    (Path(full.place) / "manifest.json.part").write_text('{"key": {"lo')
    np.testing.assert_array_equal(create(Path(full.place)).read(), values())


def test_killed_before_the_first_manifest(tmp_path):
    store = create(tmp_path / "s")
    (Path(store.place) / "manifest.json").unlink()
    with pytest.raises(StoreError, match=r"manifest\.json is missing"):
        FeatureStore.open(Path(store.place), KEY)
    again = create(Path(store.place))
    fill(again, values())
    np.testing.assert_array_equal(again.read(), values())


def test_several_writers_side_by_side_and_one_seal(tmp_path):
    """Each with a view of its own, as several processes have; killed before and within the seal."""
    writers = [create(tmp_path / "s") for _ in range(2)]
    for number, rows in enumerate(writers[0].chunks):
        writers[number % 2].write(rows, {"features": values()[rows.start : rows.stop]})
    for writer in writers:
        writer.flush()
    assert read_manifest(tmp_path / "s")["complete"] == []
    assert not create(tmp_path / "s").missing, "marks count before the seal"
    writers[0].seal()
    assert read_manifest(tmp_path / "s")["complete"] == [0, 4, 8]
    assert not list((tmp_path / "s" / "complete").glob("*"))
    (tmp_path / "s" / "complete" / "4").write_bytes(b"")  # killed while marks were deleted
    again = create(tmp_path / "s")
    again.seal()
    assert not list((tmp_path / "s" / "complete").glob("*"))
    np.testing.assert_array_equal(again.read(), values())


def test_marks_of_a_store_without_manifest_are_nobodys(tmp_path):
    store = create(tmp_path / "s")
    store.write(store.chunks[0], {"features": values()[:CHUNK]})
    store.flush()
    (tmp_path / "s" / "manifest.json").unlink()
    assert create(tmp_path / "s").missing == store.chunks


# Kept as something smaller


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_rows_come_back_within_the_rounding_of_their_dtype(tmp_path, dtype):
    data = values() * np.array([1e-20, 1.0, 1e10, 0.0, 3.0, 5.0, 7.0, 1e-3, 1.0, 2.0])[:, None]
    data = data.astype(np.float32)
    store = create(tmp_path / "s", dtype=dtype)
    fill(store, data)
    found = FeatureStore.open(tmp_path / "s", KEY).read()
    largest = np.abs(data).max(axis=1, keepdims=True)
    bound = {"float32": 0.0 * data, "bfloat16": np.abs(data) / 256, "int8": largest / 254}[dtype]
    assert found.dtype == np.float32
    assert (np.abs(found - data) <= bound * 1.001).all()
    parts = [block.copy() for _, block in store.blocks("features", CHUNK)]
    np.testing.assert_array_equal(np.concatenate(parts), found)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_a_value_that_its_dtype_cannot_hold_is_refused(tmp_path, dtype):
    store, data = create(tmp_path / "s", dtype=dtype), values()[:CHUNK]
    data[2, 1] = np.nan if dtype == "int8" else 3.4e38  # rounds to infinity in bfloat16
    with pytest.raises(StoreError, match=r"features of sample 7 hold NaN or infinity"):
        store.write(store.chunks[0], {"features": data})
    assert store.missing == store.chunks


def test_a_store_of_the_memory_driver(tmp_path):
    place = f"memory://{tmp_path.name}/features/trak"
    store = FeatureStore.create(
        place, KEY, index=INDEX, widths={"features": WIDTH}, chunk=CHUNK, dtype="int8"
    )
    store.write(store.chunks[1], {"features": values()[4:8]})
    store.flush()
    again = FeatureStore.open(place, KEY)
    assert again.missing == [again.chunks[0], again.chunks[2]]
    fill(again, values())
    np.testing.assert_allclose(FeatureStore.open(place, KEY).read(), values(), atol=0.02)
    with pytest.raises(StoreError, match=r"memory://.*/other/manifest\.json is missing"):
        read_manifest(f"memory://{tmp_path.name}/other")


# What the disk refuses


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 128 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_names_the_store_and_keeps_the_rows_before(small_disk):
    data = np.random.default_rng(0).normal(size=(64, 1024)).astype(np.float32)
    store = FeatureStore.create(
        small_disk / "s", KEY, index=np.arange(64), widths={"features": 1024}, chunk=8
    )
    with pytest.raises(StoreError, match=r"/s: cannot write rows \d+.* rows before are kept"):
        fill(store, data)
    again = FeatureStore.open(small_disk / "s", KEY)
    assert 0 < len(again.missing) < len(again.chunks)
    again.verify()
    room = ["mount", "-o", "remount,size=1m", str(small_disk)]
    subprocess.run(room, check=True)
    fill(again, data)
    np.testing.assert_array_equal(again.read(), data)


def test_a_read_only_folder_is_named(small_disk):
    store = create(small_disk / "s")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match=r"disk/new.*cannot be written"):
        create(small_disk / "new")
    with pytest.raises(StoreError, match=r"disk/s: cannot write rows 0\.\.3"):
        fill(store, values())


# Made from other inputs

OTHER = {
    "another value": ({**KEY, "loss": "dps"}, "loss"),
    "a nested value": ({**KEY, "projection": {"kind": "rademacher", "k": 6}}, "projection"),
    "one more": ({**KEY, "normalise": True}, "normalise"),
    "one less": ({"loss": "dsm", "projection": KEY["projection"]}, "seed"),
}


@pytest.mark.parametrize(("key", "field"), OTHER.values(), ids=OTHER.keys())
@pytest.mark.parametrize("opened", [FeatureStore.open, create], ids=["open", "create"])
def test_a_store_of_other_inputs_is_never_reused(full, opened, key, field):
    with pytest.raises(StoreError) as caught:
        opened(Path(full.place), key)
    named = str(caught.value).split("differing fields: ")[1]
    assert named.startswith(f"{field} is ")
    assert named.count(" is ") == 1, "only what differs is named"
    np.testing.assert_array_equal(FeatureStore.open(Path(full.place), KEY).read(), values())


def test_all_differing_fields_are_named(full):
    with pytest.raises(StoreError, match=r"loss is 'dsm', wanted 'dps'.*seed is 0, wanted 4"):
        FeatureStore.open(Path(full.place), {**KEY, "loss": "dps", "seed": 4})


def test_a_key_is_compared_as_json(tmp_path):
    path = tmp_path / "s"
    create(path, {"times": (1, 2), "where": Path("a")})
    FeatureStore.open(path, {"times": [1, 2], "where": "a"})


# Values that must not get in


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [4, 6])
def test_a_value_that_is_not_finite_names_its_sample_and_writes_nothing(tmp_path, row, bad):
    store = create(tmp_path / "s")
    data = values()[4:8].copy()
    data[row - 4, 3] = bad
    with pytest.raises(StoreError, match=rf"features of sample {INDEX[row]} "):
        store.write(store.chunks[1], {"features": data})
    assert store.missing == store.chunks
    assert create(Path(store.place)).missing == store.chunks
    assert not list((Path(store.place) / "features").glob("c/**/*"))


def test_a_bad_second_array_keeps_the_first_out(tmp_path):
    store = create(tmp_path / "s", widths={"features": WIDTH, "errors": 1})
    errors = np.array([[0.0], [0.0], [np.nan], [0.0]], np.float32)
    with pytest.raises(StoreError, match=f"errors of sample {INDEX[2]} "):
        store.write(store.chunks[0], {"features": values()[:4], "errors": errors})
    assert not list((Path(store.place) / "features").glob("c/**/*"))


# Damage


@pytest.mark.parametrize("chunk", [0, 2])
@pytest.mark.parametrize("place", [0, 7, -1], ids=["first", "seventh", "checksum"])
def test_a_flipped_bit_is_found(full, chunk, place):
    flip(Path(full.place) / "features" / "c" / str(chunk) / "0", place)
    store = FeatureStore.open(Path(full.place), KEY)
    for reading in (store.read, store.verify):
        with pytest.raises(StoreError) as caught:
            reading()
        assert str(Path(full.place) / "features") in str(caught.value)
        assert f"chunk {chunk} (rows {4 * chunk}.." in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


def test_a_flipped_bit_of_the_index_is_found(full):
    """Rows under wrong dataset indices would be wrong answers."""
    (file,) = [f for f in (Path(full.place) / "index" / "c").rglob("*") if f.is_file()]
    flip(file, 0)
    with pytest.raises(StoreError, match="index"):
        FeatureStore.open(Path(full.place), KEY).verify()


def test_a_damaged_index_is_a_store_error_where_it_is_read(full):
    (file,) = [f for f in (Path(full.place) / "index" / "c").rglob("*") if f.is_file()]
    flip(file, 0)
    with pytest.raises(StoreError, match="index"):
        _ = FeatureStore.open(Path(full.place), KEY).index


@pytest.mark.parametrize("size", [0, 3, 50])
def test_a_truncated_chunk_is_found(full, size):
    file = Path(full.place) / "features" / "c" / "1" / "0"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(StoreError, match="chunk 1 "):
        FeatureStore.open(Path(full.place), KEY).read()


def test_a_lost_chunk_is_found_and_not_read_as_zeros(full):
    (Path(full.place) / "features" / "c" / "1" / "0").unlink()
    with pytest.raises(StoreError, match="chunk 1 "):
        FeatureStore.open(Path(full.place), KEY).read()


@pytest.mark.parametrize("name", ["features", "index"])
def test_a_damaged_or_lost_array_is_named(full, name):
    file = Path(full.place) / name / "zarr.json"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreError, match=name):
        FeatureStore.open(Path(full.place), KEY)
    file.unlink()
    with pytest.raises(StoreError, match=name):
        FeatureStore.open(Path(full.place), KEY)


MANIFESTS: dict[str, bytes] = {
    "empty": b"",
    "truncated": b'{"key": {"loss": "dsm"}, "ro',
    "a list": b"[]",
    "a number": b"3",
    "without a key": b'{"rows": 1, "chunk": 1, "arrays": [], "complete": [], "together": []}',
    "without arrays": b'{"key": {}, "rows": 1, "chunk": 1, "complete": [], "together": []}',
    "not text": b'{"key": "\xff\xfe"}',
}


@pytest.mark.parametrize("content", MANIFESTS.values(), ids=MANIFESTS.keys())
def test_a_damaged_manifest_is_named(full, content):
    (Path(full.place) / "manifest.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"manifest\.json is damaged"):
        FeatureStore.open(Path(full.place), KEY)
    with pytest.raises(StoreError, match=r"manifest\.json is damaged"):
        create(Path(full.place))


def test_a_store_that_is_not_there(tmp_path):
    with pytest.raises(StoreError, match="missing"):
        FeatureStore.open(tmp_path / "none", KEY)
    with pytest.raises(StoreError, match="missing"):
        read_manifest(tmp_path / "none")


# The format, read without our code


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


# Scores


def test_scores_come_back_and_replace_older_ones(tmp_path):
    path = tmp_path / "scores" / "m.zarr"
    rng = np.random.default_rng(0)
    for shape in ((3, 7), (5, 2)):
        scores = rng.normal(size=shape).astype(np.float32)
        write_scores(path, scores)
        np.testing.assert_array_equal(read_scores(path), scores)


def test_scores_may_be_unanswered(tmp_path):
    scores = np.array([[1.0, 2.0], [np.nan, np.nan]], np.float32)
    write_scores(tmp_path / "m.zarr", scores)
    np.testing.assert_array_equal(read_scores(tmp_path / "m.zarr"), scores)


def test_damaged_or_missing_scores_are_a_store_error(tmp_path):
    path = tmp_path / "m.zarr"
    with pytest.raises(StoreError, match=r"m\.zarr"):
        read_scores(path)
    write_scores(path, values())
    flip(path / "c" / "0" / "0", 5)
    with pytest.raises(StoreError, match=r"m\.zarr"):
        read_scores(path)
