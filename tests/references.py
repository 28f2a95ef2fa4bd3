"""What PyTorch's classes computed in float64 of small models (fixtures/README.md)."""

from functools import cache
from pathlib import Path

import numpy as np

from ctrak_jax.models.checkpoints import safe

EXACT = 4e-6
"""Largest relative difference of float32 predictions; a GELU of the wrong kind is at 2e-5 or more,
an epsilon of 1e-5 in place of 1e-6 at 8e-6."""


@cache
def reference(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a reference, as stored."""
    return safe.read(file).tensors


def channels_last(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(array, -3, -1))


def difference(found, expected) -> float:
    """The largest difference, by the largest number expected."""
    assert np.shape(found) == np.shape(expected)
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


def shifted(u: np.ndarray, shift: float) -> np.ndarray:
    """Noise levels of a rectified flow with a shift, in float64."""
    return shift * u / (1 + (shift - 1) * u)


RECORDED = np.arange(1, 10) / 10
"""Of the flow's time, the nine steps of the references."""
