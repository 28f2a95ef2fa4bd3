"""Every kind of negative condition for the inversions of the training samples, on one model.

    python -m benchmarks.guidance RUN [--negatives 2] [--prompt "a portrait"]

RUN is a finished run of configs/text_to_image.yaml; its own line comes first. Everything but
``trajectory.negative`` and ``trajectory.negatives`` is the run's; damping is chosen on validation
questions, by kind.
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.again import Found, again, read
from ctrak_jax import config

METHOD = "concept-trak"


def main() -> None:
    """One line a kind."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--negatives", type=int, default=2)
    parser.add_argument("--prompt", default="a portrait")
    asked = parser.parse_args()
    settings = config.load(asked.run / "config.yaml")
    names = settings.data.condition_on
    table = Table("negative", "negatives", "ID", "OOD", *(f"{name}, OOD" for name in names))

    def add(kind: str, negatives: int, by: Found) -> None:
        values = [by.precision(METHOD, "id"), by.precision(METHOD, "ood")]
        values += [by.precision(METHOD, "ood", name) for name in names]
        cells = [kind, str(negatives), *(f"{value:.2f}" for value in values)]
        table.add_row(*cells)
        print(*cells, flush=True)

    add(settings.trajectory.negative, settings.negatives, read(asked.run))
    for kind in ("null", "prompt", "other", "opposite", "attribute"):
        negatives = 1 if kind in ("null", "prompt") else asked.negatives
        changed = {
            "trajectory.path": "inversion",
            "trajectory.condition": "own",
            "trajectory.negative": kind,
            "trajectory.negatives": negatives,
            "trajectory.negative_prompt": asked.prompt if kind == "prompt" else "",
        }
        add(kind, negatives, again(asked.run, [METHOD], changed))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
