"""Explained answers: where the scores of a question's first training images come from."""

import io
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ctrak_jax.errors import StoreError
from ctrak_jax.store.files import write_atomically


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The first training images for one concept, with the parts of their scores.

    Attributes:
        method: what ranked.
        concept: the attribute, or the words of a prompt.
        value: the attribute's value, or nothing.
        index: dataset indices, best first.
        score: their scores.
        timesteps: of the states on the training images' paths, one path after the other.
        query_timesteps: of the states on the query image's path.
        pixels: parts by place in the training image; they sum to the score.
        query_pixels: parts by place in the query image; they sum to the score.
        layers: the parameters' paths.
        by_layer: parts by parameter; they sum to the score.
    """

    method: str
    concept: str
    value: str
    index: Int[np.ndarray, " rank"]
    score: Float[np.ndarray, " rank"]
    timesteps: Int[np.ndarray, " time"]
    query_timesteps: Int[np.ndarray, " query_time"]
    pixels: Float[np.ndarray, "rank time height width"]
    query_pixels: Float[np.ndarray, "rank query_time height width"]
    layers: tuple[str, ...]
    by_layer: Float[np.ndarray, "rank layer time"]

    @property
    def maps(self) -> Float[np.ndarray, "rank height width"]:
        """By place in the training image, over all states."""
        return self.pixels.sum(1)

    @property
    def query_maps(self) -> Float[np.ndarray, "rank height width"]:
        """By place in the query image, over all states."""
        return self.query_pixels.sum(1)

    @property
    def by_time(self) -> Float[np.ndarray, "rank time"]:
        """By state on the training image's path."""
        return self.pixels.sum((2, 3))

    @property
    def sums(self) -> dict[str, Float[np.ndarray, " rank"]]:
        """What the parts sum to, by what they are parts of."""
        return {
            "training image": self.pixels.sum((1, 2, 3)),
            "query image": self.query_pixels.sum((1, 2, 3)),
            "layers": self.by_layer.sum((1, 2)),
        }

    @property
    def gap(self) -> float:
        """The largest distance of a sum from its score, as a share of the largest score."""
        size = np.abs(self.score).max()
        gaps = [np.abs(found - self.score).max() for found in self.sums.values()]
        return float(max(gaps) / size) if size > 0 else float(max(gaps))


def write_explanation(path: Path, found: Explanation) -> None:
    """Write one as a .npz file of arrays, words among them."""
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **vars(found))
    write_atomically(path, stream.getvalue())


def read_explanation(path: Path) -> Explanation:
    """Read one.

    Raises:
        StoreError: missing or damaged.
    """
    names = [field.name for field in fields(Explanation)]
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found: dict[str, Any] = {name: arrays[name] for name in names}
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{path}: no readable explanation ({error}); delete it.") from None
    for name in ("method", "concept", "value"):
        found[name] = str(found[name])
    found["layers"] = tuple(map(str, found["layers"]))
    return Explanation(**found)
