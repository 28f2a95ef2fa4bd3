"""The feature store: what is written is read, and a store is finished where it was left."""

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrak_jax.errors import StoreError
from ctrak_jax.store import FeatureStore, read_manifest
from tests.store.stores import CHUNK, INDEX, KEY, ROWS, WIDTH, create, fill, flip, values

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
