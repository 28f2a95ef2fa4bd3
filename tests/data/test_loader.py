"""Batches for training: every image once an epoch, from any start."""

import numpy as np
import pytest

from ctrak_jax import config as cfg
from ctrak_jax.data import (
    TrainingBatches,
    build,
)


@pytest.fixture(scope="module")
def dataset():
    return build(cfg.DataConfig(size=24, hold_out=({"shape": "triangle", "color": "red"},)))


def rows_of(dataset, x0: np.ndarray) -> list[int]:
    """Which training images a batch holds."""
    known = {image.tobytes(): row for row, image in enumerate(dataset.train_images())}
    assert len(known) == len(dataset.train_index), "no two images are the same"
    return [known[image.tobytes()] for image in x0.reshape(-1, *x0.shape[-3:])]


def test_a_later_start_gives_the_same_steps(dataset):
    whole = TrainingBatches(dataset, batch=4, seed=1)(0, 15)
    tail = TrainingBatches(dataset, batch=4, seed=1)(10, 5)
    np.testing.assert_array_equal(tail.x0, whole.x0[10:])
    np.testing.assert_array_equal(tail.cond, whole.cond[10:])
    assert whole.x0.shape == (15, 4, 16, 16, 3)


def test_an_image_keeps_its_condition(dataset):
    batches = TrainingBatches(dataset, batch=4, seed=1)(0, 9)
    rows = rows_of(dataset, batches.x0)
    np.testing.assert_array_equal(batches.cond.reshape(36, -1), dataset.train_conditions[rows])


@pytest.mark.parametrize("batch", [3, 4, 9, 18, 30])
def test_every_epoch_sees_every_image_once_in_an_order_of_its_own(dataset, batch):
    """Batches of 4 do not divide the 18 images: the stream runs on over the end of an epoch."""
    count = len(dataset.train_index)
    assert count == 18
    steps = -(-3 * count // batch)
    seen = rows_of(dataset, TrainingBatches(dataset, batch=batch, seed=1)(0, steps).x0)
    epochs = [seen[e * count : (e + 1) * count] for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(count))
    assert epochs[0] != epochs[1]
    assert epochs[1] != epochs[2]


def test_the_seed_decides_the_order(dataset):
    first, same, other = (TrainingBatches(dataset, batch=18, seed=s)(0, 1).x0 for s in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert rows_of(dataset, first) != rows_of(dataset, other)
