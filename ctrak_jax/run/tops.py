"""The first training images of a method for every question: ``top/<method>.csv``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np

from ctrak_jax.run.tables import damaged, read_csv, write_csv
from ctrak_jax.score import Ranking

HEADER = ("query", "rank", "index", "score", "attribute")
BLOCK = 256
"""Scores whose minimum is looked at first."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A training image in a ranking: its dataset index and its score."""

    index: int
    score: float


Tops = Mapping[tuple[str, str], Sequence[Hit]]
"""Rankings, best first, by the question's (query, attribute)."""


def write_ranking(
    path: Path, keys: Sequence[tuple[str, str]], ranking: Ranking, index: np.ndarray
) -> None:
    """Write top/<method>.csv of the questions that the method answers.

    Args:
        keys: the questions' (query, attribute).
        ranking: rows of the candidates [question, rank]; NaN where a method has no answer.
        index: the candidates' dataset indices.
    """
    tops = {}
    for key, rows, values in zip(keys, *map(np.asarray, ranking), strict=True):
        if not np.isnan(values).any():
            found = zip(index[rows], values, strict=True)
            tops[key] = [Hit(int(i), float(value)) for i, value in found]
    write_tops(path, tops)


def write_tops(path: Path, tops: Tops) -> None:
    """Write top/<method>.csv."""
    rows = [
        (query, rank, hit.index, f"{hit.score:.6g}", attribute)
        for (query, attribute), hits in tops.items()
        for rank, hit in enumerate(hits, 1)
    ]
    write_csv(path, HEADER, rows)


def read_tops(path: Path, depth: int | None = None) -> Tops:
    """Read top/<method>.csv; the first ``depth`` of every ranking, or all.

    Raises:
        StoreError: missing or damaged.
    """
    ranked: dict[tuple[str, str], list[tuple[int, Hit]]] = {}
    try:
        for row in read_csv(path, HEADER, "score"):
            if depth is not None and int(row["rank"]) > depth:
                continue
            hit = Hit(int(row["index"]), float(row["score"]))
            if not math.isfinite(hit.score):
                raise ValueError(f"score {hit.score} of {row['query']}")
            place = ranked.setdefault((row["query"], row["attribute"]), [])
            place.append((int(row["rank"]), hit))
    except ValueError as error:
        raise damaged(path, error, "score") from None
    return {
        key: [hit for _, hit in sorted(found, key=itemgetter(0))] for key, found in ranked.items()
    }


def lowest(scores: np.ndarray, index: np.ndarray, depth: int) -> list[Hit]:
    """The ``depth`` candidates of least score, lowest first; ties go to the lower row.

    Args:
        scores: of one question [sample].
        index: the candidates' dataset indices [sample].
        depth: how many, or all if there are fewer.
    """
    # They are in the blocks of least minima: a tenth of the time of looking at all.
    starts = np.arange(0, len(scores), BLOCK)
    first = np.argsort(np.minimum.reduceat(scores, starts), kind="stable")[:depth]
    rows = (np.sort(starts[first])[:, None] + np.arange(BLOCK)).ravel()
    rows = rows[rows < len(scores)]
    rows = rows[np.argsort(scores[rows], kind="stable")][:depth]
    return [Hit(int(index[row]), float(scores[row])) for row in rows]
