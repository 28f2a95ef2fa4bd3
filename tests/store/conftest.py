"""A store whose rows are all there."""

import pytest

from ctrak_jax.store import FeatureStore
from tests.store.stores import create, fill, values


@pytest.fixture
def full(tmp_path) -> FeatureStore:
    store = create(tmp_path / "store")
    fill(store, values())
    return store
