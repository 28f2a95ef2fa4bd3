"""The main job under every kind of projection: the same model and images, features made anew.

    python -m benchmarks.kinds RUN [--k 2048]

RUN is a finished run of configs/synthetic.yaml. Damping is chosen on validation questions, by kind.
"""

import argparse
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Table

from benchmarks.again import again
from ctrak_jax.config import ProjectionConfig

METHODS = ("concept-trak", "trak", "d-trak", "das")


def main() -> None:
    """One line a kind."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--k", type=int, default=2048)
    asked = parser.parse_args()
    table = Table("kind", "featurize s", "query s", *METHODS, title="precision@10, ID / OOD")
    for kind in get_args(ProjectionConfig.model_fields["kind"].annotation):
        found = again(asked.run, METHODS, {"projection.kind": kind, "projection.k": asked.k})
        seconds = [f"{found.seconds[stage]:.0f}" for stage in ("featurize", "query")]
        both = [[found.precision(m, scenario) for scenario in ("id", "ood")] for m in METHODS]
        cells = [kind, *seconds, *(f"{id_:.2f} / {ood:.2f}" for id_, ood in both)]
        table.add_row(*cells)
        print(*cells, flush=True)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
