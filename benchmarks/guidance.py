"""What the inversions of the training samples are guided against: all kinds, on one model.

    python -m benchmarks.guidance RUN [--prompt "a portrait"]

RUN is a finished run of configs/text_to_image.yaml. Everything but ``trajectory.against`` and the
number of opponents is the run's; damping is chosen on validation questions, by kind.
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.again import again
from ctrak_jax import config

METHOD = "concept-trak"


def main() -> None:
    """One line a kind."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--prompt", default="a portrait")
    asked = parser.parse_args()
    settings = config.load(asked.run / "config.yaml")
    names = settings.data.condition_on
    most = settings.trajectory.opponents
    kinds = [
        ("null", 1),
        ("prompt", 1),
        *((kind, most) for kind in ("other", "opposite", "attribute")),
    ]
    columns = ["ID", "OOD", *(f"{name}, OOD" for name in names)]
    table = Table("against", "opponents", "featurize s", *columns, title="local precision@10")
    for kind, opponents in kinds:
        changed: dict[str, object] = {"trajectory.against": kind, "trajectory.opponents": opponents}
        if kind == "prompt":
            changed["trajectory.prompt"] = asked.prompt
        found = again(asked.run, [METHOD], changed)
        values = [found.precision(METHOD, "id"), found.precision(METHOD, "ood")]
        values += [found.precision(METHOD, "ood", name) for name in names]
        cells = [
            kind,
            str(opponents),
            f"{found.seconds['featurize']:.0f}",
            *(f"{v:.2f}" for v in values),
        ]
        table.add_row(*cells)
        print(*cells, flush=True)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
