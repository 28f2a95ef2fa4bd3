"""Scores on disk."""

import numpy as np
import pytest

from ctrak_jax.errors import StoreError
from ctrak_jax.store import read_scores, write_scores
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
