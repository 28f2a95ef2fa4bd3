"""Measures of maps against known regions, and their means with intervals."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ctrak_jax import metrics

SPREAD = 0.25
"""Standard deviation of the centre-weighted map, as a share of the side."""
EVERY = "all"
"""The mean over attributes."""


def enrichment(found: np.ndarray, inside: np.ndarray) -> float:
    """The share of a map's positive part inside a region over the region's share of the area; 1 of
    a map without a positive part."""
    positive = np.maximum(found, 0.0)
    if not positive.any():
        return 1.0
    return float(positive[inside].sum() / positive.sum() / inside.mean())


def points_inside(found: np.ndarray, inside: np.ndarray) -> bool:
    """Is the largest value inside?"""
    return bool(inside.reshape(-1)[found.argmax()])


def centred(shape: tuple[int, ...]) -> np.ndarray:
    """A map that is a normal density around the middle."""
    rows, columns = (np.exp(-0.5 * (((np.arange(n) + 0.5) / n - 0.5) / SPREAD) ** 2) for n in shape)
    return rows[:, None] * columns


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One map of an image about one attribute of a question.

    Attributes:
        of: ``training`` or ``query``, the kind of image.
        images: ``first`` by the method's scores, or ``random`` carriers.
        run: number of the run.
        query: the question's image.
    """

    of: str
    images: str
    run: int
    query: str
    scenario: str
    attribute: str
    method: str
    enrichment: float
    pointing: float


def summary(
    rows: Sequence[Measured], value: Callable[[Measured], float], attribute: str
) -> metrics.Interval:
    """The mean over the images asked about of one attribute, or over all attributes, each counting
    alike."""
    groups: dict[int, dict[str, dict[str, list[float]]]] = {}
    for row in rows:
        if attribute in (row.attribute, EVERY):
            query = groups.setdefault(row.run, {}).setdefault(row.query, {})
            query.setdefault(row.attribute, []).append(value(row))
    means = [
        np.array([np.mean([np.mean(v) for v in query.values()]) for query in group.values()])
        for group in groups.values()
    ]
    return metrics.bootstrap_mean(means)


def table(rows: Sequence[Measured], attributes: Sequence[str]) -> Iterator[str]:
    """Markdown: enrichment / pointing game of every kind of map, with an interval of the mean over
    attributes."""
    names = (EVERY, *attributes)
    yield f"| map of | scenario | images | method | {' | '.join(names)} |"
    yield "|---" * (4 + len(names)) + "|"
    kinds = dict.fromkeys((r.of, r.scenario, r.images, r.method) for r in rows)
    for kind in sorted(kinds, key=lambda k: (k[0] == "query", k[1] == "id", k[2])):
        part = [r for r in rows if (r.of, r.scenario, r.images, r.method) == kind]
        cells = []
        for name in names:
            rich = summary(part, lambda r: r.enrichment, name)
            hit = summary(part, lambda r: r.pointing, name)
            cell = f"{rich.mean:.2f} / {hit.mean:.2f}"
            if name == EVERY:
                cell += f" [{rich.low:.2f}, {rich.high:.2f}] / [{hit.low:.2f}, {hit.high:.2f}]"
            cells.append(cell)
        yield f"| {' | '.join((*kind, *cells))} |"
