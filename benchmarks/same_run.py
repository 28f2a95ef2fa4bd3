"""Two runs of one config: the same model, features, scores and rankings, bit for bit?

    python -m benchmarks.same_run RUN OTHER

for instance of two commits, each by its own ``ctrak run CONFIG --out RUN``. Exit status 1 where a
feature or score differs by more than a relative 1e-6, or a ranking differs.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ctrak_jax.run.tops import read_tops
from ctrak_jax.store import FeatureStore, read_manifest, read_scores

TOLERANCE = 1e-6


def distances(one: Path, other: Path) -> Iterator[tuple[Path, float]]:
    """Every array of ``one``, and the largest relative distance of a row from the other run's."""

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        known = ~np.isnan(a).any(axis=1)  # unlearning answers no global question
        difference = np.linalg.norm(a[known] - b[known], axis=1)
        return float((difference / np.maximum(np.linalg.norm(a[known], axis=1), 1e-30)).max())

    for file in sorted(one.rglob("manifest.json")):
        place = file.parent.relative_to(one)
        rows = [
            FeatureStore(run / place, read_manifest(run / place)).read() for run in (one, other)
        ]
        yield place, distance(*rows)
    for folder in sorted(one.rglob("*.zarr")):
        place = folder.relative_to(one)
        yield place, distance(read_scores(one / place), read_scores(other / place))


def main(one: Path, other: Path) -> int:
    status = 0
    for place, distance in distances(one, other):
        status |= not distance <= TOLERANCE
        print(f"{place}: {'equal' if distance == 0 else f'{distance:.1e}'}")
    for file in sorted(one.rglob("top/*.csv")):
        place = file.relative_to(one)
        first, second = (
            {key: [hit.index for hit in hits] for key, hits in read_tops(run / place).items()}
            for run in (one, other)
        )
        status |= first != second
        print(f"{place}: {'the same rankings' if first == second else 'other rankings'}")
    return status


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:3])))
