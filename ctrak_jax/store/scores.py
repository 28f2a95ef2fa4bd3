"""All scores of a method: one zarr v3 array float32 [query, sample]."""

from pathlib import Path

import numpy as np

from ctrak_jax.store.place import create_array, open_array, read_values


def write_scores(path: Path, scores: np.ndarray) -> None:
    """Write a score matrix, replacing an older one."""
    array = create_array(path, scores.shape, max(1, len(scores)), "float32")
    array.write(scores.astype(np.float32)).result()


def read_scores(path: Path) -> np.ndarray:
    """Read what :func:`write_scores` wrote."""
    advice = "delete the folder it is in and run `ctrak score` again"
    return read_values(open_array(path), f"{path}", advice)
