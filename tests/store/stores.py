"""A small feature store and what damages it."""

from pathlib import Path

import numpy as np

from ctrak_jax.store import FeatureStore

KEY = {"loss": "dsm", "seed": 0, "projection": {"kind": "rademacher", "k": 5}}
ROWS, WIDTH, CHUNK = 10, 5, 4
INDEX = 3 * np.arange(ROWS) + 1


def create(path: Path, key=KEY, **changes) -> FeatureStore:
    settings = {"index": INDEX, "widths": {"features": WIDTH}, "chunk": CHUNK} | changes
    return FeatureStore.create(path, key, **settings)


def values(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(ROWS, WIDTH)).astype(np.float32)


def fill(store: FeatureStore, data: np.ndarray) -> None:
    for rows in store.missing:
        store.write(rows, {"features": data[rows.start : rows.stop]})
    store.seal()


def flip(file: Path, place: int, bits: int = 0x01) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= bits
    file.write_bytes(bytes(content))


def crc32c(data: bytes) -> int:
    """Castagnoli's CRC bit by bit, from its definition."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
