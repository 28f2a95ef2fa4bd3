"""A run of a text-to-image model, its data and its model."""

from pathlib import Path

import numpy as np
import pytest

from ctrak_jax import pipeline
from ctrak_jax.data import write_folder
from ctrak_jax.data.raw import RawImages
from tests.inputs.words import EACH, PAIRS, VALUES, config
from tests.tiny_model import write_model


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Noise with captions of two words."""
    folder = tmp_path_factory.mktemp("data")
    rows = [pair for pair in PAIRS for _ in range(EACH)]
    images = np.random.default_rng(0).integers(0, 256, (len(rows), 16, 16, 3), np.uint8)
    columns = dict(zip(VALUES, map(tuple, zip(*rows, strict=True)), strict=True))
    raw = RawImages(
        name="words",
        images=images,
        attributes=columns,
        prompts=tuple(f"{noun} ab {tail}" for noun, tail in rows),
    )
    write_folder(raw, folder)
    return folder


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), shallow=True)


@pytest.fixture(scope="module")
def run(data, model_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run")
    pipeline.run(config(data, model_folder), out)
    return out
