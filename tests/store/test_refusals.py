"""The feature store: nothing damaged, partial or foreign passes."""

import logging
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ctrak_jax.errors import StoreError
from ctrak_jax.store import FeatureStore, read_manifest
from ctrak_jax.store.files import require_writable, write_atomically
from tests.store.stores import INDEX, KEY, WIDTH, create, fill, flip, values

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


def test_results_that_cannot_be_written_are_told_at_once(small_disk):
    out = small_disk / "run"
    require_writable(out)
    assert list(out.iterdir()) == []
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for folder in (out, small_disk / "new"):
        with pytest.raises(StoreError, match=f"{folder}: cannot be written .Read-only.*--out"):
            require_writable(folder)
        with pytest.raises(StoreError, match=r"config.yaml: cannot be written .Read-only"):
            write_atomically(folder / "config.yaml", "")


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


READS = {
    "whole": lambda store: store.read(),
    "blocks": lambda store: np.concatenate([b.copy() for _, b in store.blocks("features", 8)]),
    "a part": lambda store: next(b.copy() for _, b in store.blocks("features", 8, range(4, 10))),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_read_that_fails_its_checksum_once_is_read_again(tmp_path, read, dtype):
    """The file is right again when the log says that the first read failed."""
    store = create(tmp_path / "s", dtype=dtype)
    fill(store, values())
    expected, said = read(store), []
    file = tmp_path / "s" / "features" / "c" / "1" / "0"
    flip(file, 2)

    class Mend(logging.Handler):
        def emit(self, record):
            said.append(record.getMessage())
            flip(file, 2)

    handler = Mend(logging.WARNING)
    logging.getLogger("ctrak").addHandler(handler)
    try:
        np.testing.assert_array_equal(read(FeatureStore.open(tmp_path / "s", KEY)), expected)
    finally:
        logging.getLogger("ctrak").removeHandler(handler)
    assert len(said) == 1
    assert "chunk 1 (rows 4..7): read again" in said[0]


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
