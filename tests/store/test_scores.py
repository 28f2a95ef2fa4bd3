"""Scores on disk."""

import numpy as np
import pytest

from ctrak_jax.errors import StoreError
from ctrak_jax.store import read_scores, score_blocks, write_scores
from tests.store.stores import flip, values


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


@pytest.mark.parametrize("samples", [1, 4, 2**16])
@pytest.mark.parametrize("queries", [[0, 1, 2], [2, 0], [1]])
def test_blocks_of_samples_are_the_scores_of_the_queries_in_order(
    tmp_path, monkeypatch, samples, queries
):
    monkeypatch.setattr("ctrak_jax.store.scores._SAMPLES", samples)
    scores = np.random.default_rng(1).normal(size=(3, 10)).astype(np.float32)
    write_scores(tmp_path / "m.zarr", scores)
    np.testing.assert_array_equal(read_scores(tmp_path / "m.zarr"), scores)
    spans, blocks = zip(*score_blocks(tmp_path / "m.zarr", queries), strict=True)
    assert [row for span in spans for row in span] == list(range(10))
    assert len(spans[0]) == min(10, samples)
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), scores[queries])
