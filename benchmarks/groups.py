"""Time and memory of influence by group for a million images.

    python -m benchmarks.groups [--images N] [--queries N] [--groups N] [--k N]

Makes a data set, scores and features of normal numbers in a temporary folder, and measures in a
process of its own each: the data set read, scores read from disk, or computed from features on
disk, summed by group, and JSON, CSV and picture written. The sums are compared with NumPy's.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ctrak_jax.attribution.groups import GroupInfluence
from ctrak_jax.config import DataConfig
from ctrak_jax.data import Dataset, build
from ctrak_jax.devices import local_mesh
from ctrak_jax.fisher import Block
from ctrak_jax.report.groups import GroupQuestion, GroupTable, write_groups
from ctrak_jax.report.groups.picture import write_picture
from ctrak_jax.run.features import in_memory, open_features, solve, weighed_scores
from ctrak_jax.stages.ask.groups import MEMORY, group_rows, summed
from ctrak_jax.store import FeatureStore, read_scores, score_blocks, write_scores

COLUMN, DEPTH, CHUNK, KEY = "artist", 100, 1024, {"made": "at random"}


class Size(NamedTuple):
    """How much: images, queries, groups, length of a feature."""

    images: int
    queries: int
    groups: int
    k: int


def make(folder: Path, size: Size) -> None:
    """A data set with empty cells in its column, scores, and features of images and queries."""
    rng = np.random.default_rng(0)
    (folder / "data").mkdir()
    np.save(folder / "data" / "images.npy", rng.integers(0, 255, (size.images, 4, 4, 3), np.uint8))
    of = np.minimum(rng.geometric(8 / size.groups, size.images), size.groups).tolist()
    names = (f"{n},{n % 7},{f'artist {a}' if n % 50 else ''}\n" for n, a in enumerate(of))
    with (folder / "data" / "attributes.csv").open("w") as file:
        file.write(f"index,style,{COLUMN}\n")
        file.writelines(names)
    write_scores(folder / "scores", rng.normal(0.1, 1, (size.queries, size.images)))
    store = FeatureStore.create(
        folder / "features",
        KEY,
        index=np.arange(size.images),
        widths={"features": size.k},
        chunk=CHUNK,
    )
    for rows in store.chunks:
        store.write(rows, {"features": rng.standard_normal((len(rows), size.k), np.float32)})
    store.seal()
    np.save(folder / "queries.npy", rng.standard_normal((size.queries, size.k), np.float32))


def from_features(folder: Path) -> Iterator[Block]:
    """Scores at one damping, block by block."""
    store = FeatureStore.open(folder / "features", KEY)
    features = in_memory(open_features(store, local_mesh(1), None, memory=MEMORY))
    solution = solve(features, np.load(folder / "queries.npy"), [1.0])
    for block in weighed_scores(features, solution):
        yield Block(block.rows, np.asarray(block.features)[0])


def queries_of(folder: Path) -> int:
    return len(np.load(folder / "queries.npy", mmap_mode="r"))


def from_scores(folder: Path) -> Iterator[Block]:
    return (Block(*found) for found in score_blocks(folder / "scores", range(queries_of(folder))))


def written(folder: Path, dataset: Dataset, found: GroupInfluence, queries: int) -> None:
    """The tables and the picture of ``ctrak groups``."""
    asked = [
        GroupQuestion(query=f"query-{number:02d}", attribute="style", value="0")
        for number in range(queries)
    ]
    grouping, index = dataset.grouped(COLUMN), dataset.train_index
    table = GroupTable(
        by=COLUMN,
        method="concept-trak",
        k=DEPTH,
        samples=len(index),
        questions=asked,
        rows=group_rows(found, grouping, [q.key for q in asked], index),
    )
    write_groups(folder / "out", table)
    write_picture(folder / "out" / "groups.png", table, dataset.raw.images)


def measure(folder: Path, source: str) -> None:
    """Print seconds, the peak of memory, and the difference from NumPy's sums."""
    start = time.monotonic()
    config = DataConfig(kind="folder", path=folder / "data", condition_on=("style",))
    dataset = build(config)
    grouping = dataset.grouped(COLUMN)
    read = time.monotonic()
    blocks = {"scores": from_scores, "features": from_features}[source](folder)
    queries = queries_of(folder)
    found = summed(blocks, queries, grouping, DEPTH)
    streamed = time.monotonic()
    written(folder, dataset, found, queries)
    end = time.monotonic()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        json.dumps(
            [
                read - start,
                streamed - read,
                end - streamed,
                end - start,
                peak,
                off(folder, source, found, grouping.numbers),
            ]
        )
    )


def off(folder: Path, source: str, found: GroupInfluence, numbers: np.ndarray) -> float:
    """The largest relative difference from sums over the whole of the scores."""
    if source == "scores":
        scores = read_scores(folder / "scores")
    else:
        scores = np.concatenate([block.features.copy() for block in from_features(folder)], axis=1)
    order = np.argsort(numbers, kind="stable")
    starts = np.searchsorted(numbers[order], np.arange(numbers.max() + 1))
    worst = 0.0
    for row, total in zip(scores, found.total[1:], strict=True):
        own = row[order].astype(np.float64)
        expected, size = np.add.reduceat(own, starts), np.add.reduceat(np.abs(own), starts)
        worst = max(worst, float((np.abs(total - expected) / size).max()))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=32)
    parser.add_argument("--groups", type=int, default=1000)
    parser.add_argument("--k", type=int, default=256)
    parser.add_argument("--folder", type=Path, help="of what one process is to measure")
    parser.add_argument("--source", choices=("scores", "features"))
    args = parser.parse_args()
    if args.folder is not None:
        measure(args.folder, args.source)
        return
    size = Size(args.images, args.queries, args.groups, args.k)
    print("| scores | data set s | sums s | tables and picture s | all s | peak GiB | difference |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), size)
        for source in ("scores", "features"):
            command = [sys.executable, "-m", "benchmarks.groups", "--folder", folder]
            done = subprocess.run(
                [*command, "--source", source], check=True, stdout=subprocess.PIPE, text=True
            )
            *seconds, peak, difference = json.loads(done.stdout)
            name = "kept" if source == "scores" else f"from features, k = {size.k}"
            cells = [*(f"{s:.1f}" for s in seconds), f"{peak:.2f}", f"{difference:.0e}"]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
