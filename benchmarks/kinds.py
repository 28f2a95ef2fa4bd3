"""The main job under every kind of projection: the same model and images, features made anew.

    python -m benchmarks.kinds RUN [--k 2048]

RUN is a finished run of configs/synthetic.yaml. Damping is chosen on validation questions, by kind.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Table

from ctrak_jax.config.settings import ProjectionConfig

METHODS = ("concept-trak", "trak", "d-trak", "das")
KEPT = ("model", "training", ".stages", "queries/images", "queries/queries.csv")
STAGES = ("featurize", "query", "score", "evaluate")


def started(run: Path, folder: Path) -> Path:
    """A run of its own with the model and the questions of another."""
    for name in (name for name in KEPT if (run / name).exists()):
        copy = shutil.copytree if (run / name).is_dir() else shutil.copy
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy(run / name, folder / name)
    shutil.copy(run / "config.yaml", folder / "config.yaml")
    return folder


def precisions(out: Path) -> dict[tuple[str, str], str]:
    """Mean local precision@10 over both attributes, by method and scenario."""
    rows = json.loads((out / "metrics.json").read_text())["summary"]
    return {
        (row["method"], row["scenario"]): f"{row['precision']:.2f}"
        for row in rows
        if row["scope"] == "local" and row["attribute"] == "all" and row["k"] == 10
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--k", type=int, default=2048)
    asked = parser.parse_args()
    table = Table("kind", "featurize s", "query s", *METHODS, title="precision@10, ID / OOD")
    for kind in get_args(ProjectionConfig.model_fields["kind"].annotation):
        with tempfile.TemporaryDirectory(prefix="ctrak-kinds-") as folder:
            out = started(asked.run, Path(folder))
            settings = {
                "--projection.kind": kind,
                "--projection.k": str(asked.k),
                "--methods": json.dumps(METHODS),
                "--controls": "[]",
            }
            flags = [part for setting in settings.items() for part in setting]
            for stage in STAGES:
                command = [sys.executable, "-m", "ctrak_jax.cli", stage, str(out), *flags]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(done.stderr)
            lines = map(json.loads, (out / "log.jsonl").read_text().splitlines())
            seconds = {line["stage"]: f"{line['seconds']:.0f}" for line in lines}
            found = precisions(out)
        cells = [f"{found[m, 'id']} / {found[m, 'ood']}" for m in METHODS]
        table.add_row(kind, seconds["featurize"], seconds["query"], *cells)
        print(kind, seconds["featurize"], seconds["query"], *cells, flush=True)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
