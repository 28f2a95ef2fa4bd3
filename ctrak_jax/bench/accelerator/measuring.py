"""One measurement, its time, and how far two results are apart."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np


class LeftOutError(Exception):
    """A measurement that this machine or installation has no use for; the text says why."""


class Measurement(NamedTuple):
    """One thing to measure.

    Attributes:
        part: of the benchmark.
        name: what it is, within the part.
        seconds: about what it takes, compilation included; it is not begun with less left.
        run: measures; gives figures by name. Raises :class:`LeftOutError` where it has no use.
        rank: lower ones come first, whatever their part.
    """

    part: str
    name: str
    seconds: float
    run: Callable[[], dict[str, Any]]
    rank: int = 0


def timed(fn: Callable[..., Any], *args: Any, repeats: int = 3) -> float:
    """The median of a call's seconds, after one that is not counted."""
    jax.block_until_ready(fn(*args))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(fn(*args))
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def apart(ours: Any, truth: Any) -> dict[str, float]:
    """How far rows are from the true ones, the worst of them: the difference relative to the true
    row's norm, and 1 - cosine. Both arguments are [sample, ...]."""
    a, b = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (ours, truth))
    norm = np.linalg.norm(b, axis=1)
    cosine = np.einsum("ij,ij->i", a, b) / (np.linalg.norm(a, axis=1) * norm)
    error = np.linalg.norm(a - b, axis=1) / norm
    return {"relative_error": float(error.max()), "one_minus_cosine": float((1 - cosine).max())}
