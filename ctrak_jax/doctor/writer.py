"""``python -m ctrak_jax.doctor.writer PLACE``: writes a store until it is killed."""

import sys
import time
from pathlib import Path

import numpy as np

from ctrak_jax.store import FeatureStore

KEY = {"made by": "ctrak doctor"}
ROWS, WIDTH, CHUNK = 4096, 512, 32
KILLED_AT = 16 * CHUNK
"""The first row of the chunk whose mark is waited for."""


def values(rows: range) -> np.ndarray:
    """The rows' features float32 [row, WIDTH], a function of their numbers."""
    numbers = np.arange(rows.start, rows.stop)[:, None] * WIDTH + np.arange(WIDTH)
    return np.sin(numbers.astype(np.float64)).astype(np.float32)


def main(place: Path) -> None:
    """Write chunk after chunk; the last one is never written."""
    store = FeatureStore.create(
        place, KEY, index=np.arange(ROWS), widths={"features": WIDTH}, chunk=CHUNK
    )
    for rows in store.chunks[:-1]:
        store.write(rows, {"features": values(rows)})
    store.flush()
    time.sleep(60)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
