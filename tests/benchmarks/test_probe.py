"""The probe of a data set: what it can read and what it cannot."""

import numpy as np

from benchmarks.probe import accuracies, textures


def test_it_reads_what_is_there_and_nothing_else():
    rng = np.random.default_rng(0)
    labels, noise = rng.integers(0, 4, 800), rng.integers(0, 4, 800)
    features = np.eye(4)[labels] + rng.normal(0, 0.2, (800, 4))
    read = accuracies(features, {"shown": labels.astype(str), "hidden": noise.astype(str)}, rng)
    assert read["shown"] > 0.95
    assert read["hidden"] < 0.4


def test_patches_tell_stripes_apart_wherever_they_are():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    waves = np.sin(2 * np.pi * (np.arange(16)[None] / 4 + rng.random((400, 1))))
    along = np.broadcast_to(waves[:, :, None], (400, 16, 16))
    images = np.where(labels[:, None, None], along, along.swapaxes(1, 2))
    images = np.repeat(images[..., None], 3, axis=-1) + rng.normal(0, 0.3, (400, 16, 16, 3))
    attributes = {"stripes": labels.astype(str)}
    assert accuracies(textures(images, rng), attributes, rng)["stripes"] > 0.95
    assert accuracies(images.reshape(400, -1), attributes, rng)["stripes"] < 0.8
