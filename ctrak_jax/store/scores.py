"""All scores of a method: one zarr v3 array float32 [query, sample]."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ctrak_jax.store.place import create_array, open_array, read_values

_CHUNK = 2**24
"""Bytes of a chunk at most, so that a few queries can be read without the rest."""
_SAMPLES = 2**16
"""Samples of a chunk at most, so that some can be read without the rest."""
_ADVICE = "delete the folder it is in and run `ctrak score` again"


class ScoreRows(NamedTuple):
    """The scores [query, sample] of some queries, the first of which is ``start``."""

    start: int
    scores: np.ndarray


def write_scores(path: Path, scores: np.ndarray) -> None:
    """Write a score matrix, replacing an older one."""
    rows = max(1, min(len(scores), _CHUNK // max(1, 4 * scores.shape[1])))
    columns = min(scores.shape[1], _SAMPLES)
    array = create_array(path, scores.shape, rows, "float32", columns=columns)
    array.write(scores.astype(np.float32)).result()


def read_scores(path: Path) -> np.ndarray:
    """Read what :func:`write_scores` wrote."""
    return read_values(open_array(path), f"{path}", _ADVICE)


def read_score_rows(path: Path) -> Iterator[ScoreRows]:
    """The same, a few queries after another."""
    array = open_array(path)
    chunk = array.chunk_layout.read_chunk.shape or array.shape
    rows = chunk[0] or 1
    for start in range(0, array.shape[0], rows):
        stop = min(start + rows, array.shape[0])
        yield ScoreRows(start, read_values(array[start:stop], f"{path}", _ADVICE))


def score_blocks(path: Path, queries: Sequence[int]) -> Iterator[tuple[range, np.ndarray]]:
    """The scores of some queries, float32 [query, sample], one chunk of samples after another."""
    array = open_array(path)
    samples, chunk = array.shape[1], array.chunk_layout.read_chunk.shape or array.shape
    size = chunk[1] or 1
    for first in range(0, samples, size):
        span = range(first, min(first + size, samples))
        part = array.oindex[list(queries), span.start : span.stop]
        yield span, read_values(part, f"{path}", _ADVICE)
