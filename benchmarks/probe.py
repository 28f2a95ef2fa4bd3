"""What a linear probe reads of each attribute of a data set folder: are the labels in the pictures?

    python -m benchmarks.probe DIR

One ridge regression per attribute onto the indicators of its values, on three quarters of the
pictures, accuracy on the rest: from the pixels, and from what patches hold wherever they are
(rectified responses of 6x6 patches to random other patches of the set, averaged over quarters of
the picture), since a linear function of pixels cannot read a texture or a blur.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from ctrak_jax.data import read_folder

SIDE, FILTERS, BLOCK = 6, 256, 256
RIDGE = 1e-2
"""Share of the mean eigenvalue of the second moments."""


def textures(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rectified responses of patches to random patches, by quarter: [n, 8 * FILTERS].

    Args:
        images: float [n, height, width, 3].
        rng: draws the patches.
    """

    def patches(some: np.ndarray) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(some, (SIDE, SIDE), axis=(1, 2))
        flat = windows[:, ::2, ::2].reshape(*windows[:, ::2, ::2].shape[:3], -1)
        centred = flat - flat.mean(-1, keepdims=True)
        return centred / (np.linalg.norm(centred, axis=-1, keepdims=True) + 0.5)

    sample = patches(images[rng.choice(len(images), FILTERS, replace=len(images) < FILTERS)])
    sample = sample.reshape(FILTERS, -1, sample.shape[-1])
    filters = sample[np.arange(FILTERS), rng.integers(0, sample.shape[1], FILTERS)]
    found = []
    for first in range(0, len(images), BLOCK):
        response = patches(images[first : first + BLOCK]) @ filters.T
        both = np.concatenate([np.maximum(response, 0), np.maximum(-response, 0)], axis=-1)
        high, wide = both.shape[1] // 2, both.shape[2] // 2
        quarters = [both[:, :high, :wide], both[:, :high, wide:]]
        quarters += [both[:, high:, :wide], both[:, high:, wide:]]
        found.append(np.concatenate([quarter.mean((1, 2)) for quarter in quarters], axis=-1))
    return np.concatenate(found)


def accuracies(
    features: np.ndarray,
    attributes: Mapping[str, Sequence[str] | np.ndarray],
    rng: np.random.Generator,
) -> dict[str, float]:
    """Share of a random quarter whose value the ridge regression on the rest gets right, by
    attribute.

    Args:
        features: [n, d].
        attributes: the value of every picture, by attribute.
        rng: decides the split.
    """
    test, train = np.split(rng.permutation(len(features)), [len(features) // 4])
    mean, spread = features[train].mean(0), features[train].std(0) + 1e-6
    x = np.c_[(features - mean) / spread, np.ones(len(features))]
    moments = x[train].T @ x[train]
    damped = moments + RIDGE * np.trace(moments) / len(moments) * np.eye(len(moments))
    coded = [np.unique(np.array(values), return_inverse=True) for values in attributes.values()]
    targets = np.concatenate([np.eye(len(known))[labels] for known, labels in coded], axis=1)
    read = x[test] @ np.linalg.solve(damped, x[train].T @ targets[train])
    parts = np.split(read, np.cumsum([len(known) for known, _ in coded])[:-1], axis=1)
    return {
        name: float((part.argmax(1) == labels[test]).mean())
        for name, (_, labels), part in zip(attributes, coded, parts, strict=True)
    }


def main() -> None:
    """One line per attribute."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    raw = read_folder(parser.parse_args().folder)
    images = np.asarray(raw.images[:], np.float32) / 255
    pixels = images.reshape(len(images), -1)
    patches = textures(images, np.random.default_rng(0))
    table = Table("attribute", "values", "most frequent", "pixels", "patches", title=raw.name)
    read = [accuracies(x, raw.attributes, np.random.default_rng(1)) for x in (pixels, patches)]
    for name, values in raw.attributes.items():
        _, counts = np.unique(np.array(values), return_counts=True)
        shares = (counts.max() / counts.sum(), *(found[name] for found in read))
        table.add_row(name, str(len(counts)), *(f"{share:.2f}" for share in shares))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
