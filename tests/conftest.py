"""Strict mode: eight CPU devices, shapes checked, rank promotion and NaN are errors."""

import os
from pathlib import Path

from tests import programs
from tests.compiler import xla_flags

if "PYTEST_XDIST_WORKER" not in os.environ:  # a worker has them from the process that starts it
    programs.trim()
    for name, value in programs.settings().items():
        os.environ.setdefault(name, value)
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), xla_flags(devices=8)])

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


LONGEST = (
    "test_pipeline",
    "inputs/test_text_to_image",
    "stages/test_counterfactual",
    "models/stable_diffusion/test_small",
    "test_hosts",
    "plan/test_text_to_image",
    "abc/test_abc",
    "gradient/test_gradient",
    "projection/test_projection",
    "plan/test_plan",
    "test_sign",
    "test_tpu",
    "models/stable_diffusion/test_unet",
    "models/stable_diffusion/test_pretrained",
)
"""Files to begin with, so that no worker is left with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    places = {folder / f"{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
