"""The measured table of a run, as text."""

import io
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ctrak_jax.methods import ABLATION, METHODS
from ctrak_jax.run.metrics import (
    LabelShiftSummary,
    LabelShiftTable,
    PrecisionSummary,
    read_metrics,
)

COLUMNS = (("local", "id"), ("local", "ood"), ("global", "id"), ("global", "ood"))
STEPS = dict(zip(ABLATION, ("base", "A", "B", "C", "D"), strict=True))


def read(out: Path) -> list[dict[str, Any]]:
    """The summary rows of metrics.json."""
    return [asdict(row) for row in read_metrics(out / "metrics.json").summary]


def table(out: Path) -> str:
    """precision@k by method and scenario with 95% intervals, comparison and ablation; controls."""
    metrics = read_metrics(out / "metrics.json")
    depth = metrics.settings["evaluate"]["k"][0]
    parts = [_precision(metrics.summary, f"precision@{depth} (95% interval)", depth)]
    for name, control in metrics.controls.items():
        if isinstance(control, LabelShiftTable):
            parts.append(_labels(control.summary))
        else:
            parts.append(_precision(control.summary, f"control: {name}", depth))
    parts.append(f"report: {out / 'report' / 'index.html'}")
    return "\n".join(parts)


def render(table: Table) -> str:
    """A table as plain text."""
    text = io.StringIO()
    Console(file=text, width=110, markup=False).print(table)
    return text.getvalue()


def _precision(rows: Iterable[PrecisionSummary], title: str, depth: int) -> str:
    cells = {
        (r.method, r.scope, r.scenario): r for r in rows if r.attribute == "all" and r.k == depth
    }
    shown = [c for c in COLUMNS if any((c[0], c[1]) == key[1:] for key in cells)]
    table = Table(title=title, title_justify="left")
    table.add_column("method")
    for scope, scenario in shown:
        table.add_column(f"{scope} {scenario.upper()}", justify="right")
    for method in METHODS:
        if any(key[0] == method for key in cells):
            step = f" ({STEPS[method]})" if method in STEPS else ""
            found = [cells.get((method, *column)) for column in shown]
            table.add_row(method + step, *map(_cell, found))
    return render(table)


def _cell(row: PrecisionSummary | None) -> str:
    if row is None:
        return "-"
    mean, low, high = row.interval
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def _labels(rows: Iterable[LabelShiftSummary]) -> str:
    table = Table(
        title="control: wrong-label, local OOD, rank percentile",
        title_justify="left",
    )
    table.add_column("method")
    for column in ("picture only", "label only"):
        table.add_column(column, justify="right")
    for row in rows:
        if (row.scope, row.scenario) == ("local", "ood"):
            table.add_row(row.method, f"{row.picture_only:.2f}", f"{row.label_only:.2f}")
    return render(table)
