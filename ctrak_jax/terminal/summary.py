"""The measured table of a run, as text."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from ctrak_jax.methods import ABLATION, ATTRIBUTION, REFERENCES
from ctrak_jax.metrics import Interval
from ctrak_jax.report.rows import Column, cells, columns, hidden_cells
from ctrak_jax.run.metrics import (
    HiddenSummary,
    HiddenTable,
    LabelShiftTable,
    PrecisionSummary,
    read_metrics,
)
from ctrak_jax.terminal.table import text_table

STEPS = dict(zip(ABLATION, ("base", "A", "B", "C", "D"), strict=True))


def read(out: Path) -> list[dict[str, Any]]:
    """The summary rows of metrics.json."""
    return [asdict(row) for row in read_metrics(out / "metrics.json").summary]


def table(out: Path) -> str:
    """precision@k by method and scenario with 95% intervals: comparison and ablation, references
    below them; hidden carriers; controls."""
    metrics = read_metrics(out / "metrics.json")
    depth = metrics.settings["evaluate"]["k"][0]
    parts = [_precision(metrics.summary, f"precision@{depth} (95% interval)", depth)]
    if metrics.hidden is not None:
        parts.append(_hidden(metrics.hidden))
    for name, control in metrics.controls.items():
        if isinstance(control, LabelShiftTable):
            parts.append(_labels(control))
        else:
            parts.append(_precision(control.summary, f"control: {name}", depth))
    parts.append(f"report: {out / 'report' / 'index.html'}")
    return "\n".join(parts)


def _precision(rows: Iterable[PrecisionSummary], title: str, depth: int) -> str:
    kept = [row for row in rows if row.k == depth and row.attribute == "all"]
    shown, table, methods = columns(kept), cells(kept), {row.method for row in kept}

    def lines(names: Iterable[str]) -> list[list[str]]:
        return [
            [
                f"{name} ({STEPS[name]})" if name in STEPS else name,
                *(_cell(table.get((name, column))) for column in shown),
            ]
            for name in names
            if name in methods
        ]

    return text_table(title, ["method"], _heads(shown), lines(ATTRIBUTION), lines(REFERENCES))


def _heads(shown: Iterable[Column]) -> list[str]:
    return [f"{column.scope} {column.scenario.upper()}" for column in shown]


def _cell(row: PrecisionSummary | None) -> str:
    return "-" if row is None else _interval(row.interval)


def _interval(found: Interval) -> str:
    return "{:.2f} [{:.2f}, {:.2f}]".format(*found)


def _hidden(table: HiddenTable) -> str:
    rows = [row for row in table.summary if (row.among, row.k) == ("all", table.k)]
    found, shown = hidden_cells(rows), columns(rows)
    methods = {row.method for row in rows}

    def cell(row: HiddenSummary | None) -> str:
        return "-" if row is None else _interval(row.intervals[0])

    def lines(names: Iterable[str]) -> list[list[str]]:
        return [
            [name, *(cell(found.get((name, "all", table.k, column))) for column in shown)]
            for name in names
            if name in methods
        ]

    rates = [
        fmean(row.base_rate for (*_, at), row in found.items() if at == column) for column in shown
    ]
    chance = ["chance", *(f"{rate:.2f}" for rate in rates)]
    title = f"hidden carriers: share of the top {table.k} (95% interval)"
    below = [*lines(REFERENCES), chance]
    return text_table(title, ["method"], _heads(shown), lines(ATTRIBUTION), below)


def _labels(table: LabelShiftTable) -> str:
    def lines(names: Sequence[str]) -> list[list[str]]:
        return [
            [row.method, f"{row.picture_only:.2f}", f"{row.label_only:.2f}"]
            for row in table.summary
            if (row.scope, row.scenario) == ("local", "ood") and row.method in names
        ]

    title = "control: wrong-label, local OOD, rank percentile"
    heads = ["picture only", "label only"]
    return text_table(title, ["method"], heads, lines(ATTRIBUTION), lines(REFERENCES))
