"""What the inversions of the training samples are guided against: all kinds, on one model.

    python -m benchmarks.guidance RUN [--opponents 2] [--prompt "a portrait"]

RUN is a finished run of configs/text_to_image.yaml; its own line comes first. Everything but
``trajectory.against`` and the number of opponents is the run's; damping is chosen on validation
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
    parser.add_argument("--opponents", type=int, default=2)
    parser.add_argument("--prompt", default="a portrait")
    asked = parser.parse_args()
    settings = config.load(asked.run / "config.yaml")
    names = settings.data.condition_on
    table = Table("against", "opponents", "ID", "OOD", *(f"{name}, OOD" for name in names))

    def add(kind: str, opponents: int, by: Found) -> None:
        values = [by.precision(METHOD, "id"), by.precision(METHOD, "ood")]
        values += [by.precision(METHOD, "ood", name) for name in names]
        cells = [kind, str(opponents), *(f"{value:.2f}" for value in values)]
        table.add_row(*cells)
        print(*cells, flush=True)

    add(settings.trajectory.against, settings.opponents, read(asked.run))
    for kind in ("null", "prompt", "other", "opposite", "attribute"):
        opponents = 1 if kind in ("null", "prompt") else asked.opponents
        changed = {
            "trajectory.against": kind,
            "trajectory.opponents": opponents,
            "trajectory.prompt": asked.prompt if kind == "prompt" else "",
        }
        add(kind, opponents, again(asked.run, [METHOD], changed))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
