"""What keeping features in fewer bits does to the scores of a finished run.

    python -m benchmarks.store_dtypes RUN

The training features are rounded as ``store.dtype`` would, and scored at the damping that the run
chose: how far scores move against their spread over training images (worst question), how much of
the top tens stays, and the bytes of a row.
"""

import argparse
from pathlib import Path

import numpy as np

from ctrak_jax import config, fisher, pipeline
from ctrak_jax.run.dampings import read_dampings
from ctrak_jax.run.variants import MAIN
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.score import load_features, load_query_features
from ctrak_jax.store.encoding import Dtype, decode, encode

DTYPES: tuple[Dtype, ...] = ("bfloat16", "int8")


def scores(features: np.ndarray, queries: np.ndarray, multiple: float) -> np.ndarray:
    """Unweighted scores [query, sample]."""
    rows = fisher.Matrix(features)
    solution = fisher.solve(rows, queries, [multiple], solver="spectrum")
    return np.concatenate([block.features[0] for block in solution.scores(rows)], axis=1)


def compare(ctx: Context, method: str) -> None:
    """Print one line a dtype."""
    features = np.asarray(load_features(ctx, MAIN, method).rows.whole())
    queries = load_query_features(ctx, MAIN, method)
    multiple = read_dampings(ctx.folder.dampings)[method].chosen
    exact = scores(features, queries, multiple)
    best = np.argsort(-exact, axis=1)[:, :10]
    for dtype in DTYPES:
        kept = encode(features, dtype)
        found = scores(decode(*kept), queries, multiple)
        moved = np.abs(found - exact).max(axis=1) / exact.std(axis=1)
        top = np.argsort(-found, axis=1)[:, :10]
        same = np.mean([len({*a} & {*b}) / 10 for a, b in zip(best, top, strict=True)])
        size = kept.values[0].nbytes + (0 if kept.scale is None else 4)
        print(
            f"{method:14} {dtype:9} moved by {moved.max():.4f} spreads, top ten {same:.1%} the "
            f"same, {size} bytes a row instead of {features[0].nbytes}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    run = parser.parse_args().run
    for ctx in pipeline.prepare(config.load(run / "config.yaml"), run):
        for method in ("concept-trak", "trak", "d-trak", "das"):
            compare(ctx, method)


if __name__ == "__main__":
    main()
