"""Strict mode: eight CPU devices, shapes checked, rank promotion and NaN are errors."""

import os

from tests.compiler import xla_flags

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), xla_flags(devices=8)])
# Commands leave JAX's cache of compiled programs as this says, and the user's own alone.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", "")

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_nans", True)
jax.config.update("jax_threefry_partitionable", True)

install_import_hook("ctrak_jax", "beartype.beartype")

import pytest  # noqa: E402

from tests.tiny import Tiny, make_tiny  # noqa: E402


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    """A small network with random weights, its schedule and a batch of samples."""
    return make_tiny()
