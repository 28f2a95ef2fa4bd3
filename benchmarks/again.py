"""A finished run's model and questions, asked again under other settings."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ctrak_jax.run.metrics import PrecisionSummary, read_metrics

KEPT = ("config.yaml", "model", "encoded", ".stages", "queries/images", "queries/queries.csv")
CTRAK = (sys.executable, "-m", "ctrak_jax.cli")
STAGES = ("featurize", "query", "score", "evaluate")


class Found(NamedTuple):
    """What a run found.

    Attributes:
        seconds: of each stage. rows: ``summary`` of its metrics.json.
    """

    seconds: dict[str, float]
    rows: Sequence[PrecisionSummary]

    def precision(self, method: str, scenario: str, attribute: str = "all") -> float:
        """Mean local precision@10."""
        wanted = (method, "local", scenario, attribute, 10)
        for row in self.rows:
            if (row.method, row.scope, row.scenario, row.attribute, row.k) == wanted:
                return row.precision
        raise SystemExit(f"metrics.json has no {wanted}; run {method} with evaluate.k of 10.")


def read(run: Path) -> Found:
    """What a finished run found."""
    lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    seconds = {line["stage"]: line["seconds"] for line in lines}
    return Found(seconds, read_metrics(run / "metrics.json").summary)


def again(run: Path, methods: Sequence[str], settings: Mapping[str, object]) -> Found:
    """Featurize, ask, score and evaluate in a folder of its own, which is gone afterwards; damping
    is chosen on the validation questions anew.

    Args:
        run: of one training seed. settings: by their names in the config, such as
            ``projection.kind``; what the model or the questions were made with stays as it was.
    """
    missing = [name for name in ("config.yaml", "model") if not (run / name).exists()]
    if missing:
        raise SystemExit(f"{run}: no {' and no '.join(missing)}; name a finished run of one seed.")
    given = {"methods": list(methods), "controls": [], "store.url": None, **settings}
    flags = [part for name, value in given.items() for part in (f"--{name}", json.dumps(value))]
    with tempfile.TemporaryDirectory(prefix="ctrak-again-") as folder:
        out = Path(folder)
        for name in filter(lambda name: (run / name).exists(), KEPT):
            copy = shutil.copytree if (run / name).is_dir() else shutil.copy
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            copy(run / name, out / name)
        for stage in STAGES:
            command = [*CTRAK, stage, folder, "--out", folder, *flags]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr)
        return read(out)
