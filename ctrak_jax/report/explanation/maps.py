"""Maps of the report's questions: kept in the run, shown by the explorer's switch *where*."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float, Int

from ctrak_jax.methods import METHODS
from ctrak_jax.report.labels import MAIN
from ctrak_jax.store.files import write_atomically

MapFiles = Mapping[tuple[int, str, str], Path]
"""The maps of questions, by (training seed, query, attribute)."""


@dataclass(frozen=True, kw_only=True)
class QuestionMaps:
    """Where the scores of a question's first training images come from.

    Attributes:
        index: their dataset indices, best first.
        maps: parts of each score by place in the training image.
        query_maps: parts of each by place in the query image.
    """

    index: Int[np.ndarray, " rank"]
    maps: Float[np.ndarray, "rank height width"]
    query_maps: Float[np.ndarray, "rank query_height query_width"]


def mapped_method(methods: Sequence[str]) -> str | None:
    """Whose rankings have maps: Concept-TRAK, or the first method by gradients."""
    able = [m for m in methods if m in METHODS and METHODS[m].kind == "gradients"]
    return MAIN if MAIN in able else next(iter(able), None)


def write_maps(path: Path, key: str, found: QuestionMaps) -> None:
    """Write the maps of a question, and what they depend on."""
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, key=np.array(key), **vars(found))
    write_atomically(path, stream.getvalue())


def key_of(path: Path) -> str | None:
    """What the maps of a file depend on; None where there is none that can be read."""
    found = _read(path, "key")
    return None if found is None else str(found["key"])


def read_maps(path: Path) -> QuestionMaps | None:
    """The maps of a file, if there is one that can be read."""
    found = _read(path, "index", "maps", "query_maps")
    return None if found is None else QuestionMaps(**found)


def _read(path: Path, *names: str) -> dict[str, np.ndarray] | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
