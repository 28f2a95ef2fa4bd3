"""The measured table of a run, as text."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from ctrak_jax.methods import ATTRIBUTION, REFERENCES
from ctrak_jax.metrics import Interval
from ctrak_jax.report.labels import LADDER, is_ablation
from ctrak_jax.report.rows import Column, cells, columns, hidden_cells
from ctrak_jax.run.metrics import (
    HiddenSummary,
    HiddenTable,
    LabelShiftTable,
    Metrics,
    PrecisionSummary,
    read_metrics,
)
from ctrak_jax.terminal.table import text_table

_Cells = Mapping[tuple[str, Column], PrecisionSummary]


class _Head(NamedTuple):
    """A column: its head, and the numbers of single models and of their average."""

    text: str
    column: Column
    single: _Cells
    average: _Cells


def read(out: Path) -> list[dict[str, Any]]:
    """The summary rows of metrics.json, named precision; ``unnamed`` of each is that row of unnamed
    precision, None where it was not measured."""
    metrics = read_metrics(out / "metrics.json")
    unnamed = {_group(row): asdict(row) for row in metrics.unnamed.summary}
    return [{**asdict(row), "unnamed": unnamed.get(_group(row))} for row in metrics.summary]


def _group(row: PrecisionSummary) -> tuple[str, str, str, int, str]:
    return row.method, row.scope, row.scenario, row.k, row.attribute


def table(out: Path) -> str:
    """precision@k by method and scenario with 95% intervals, unnamed beside named: comparison and
    ablation, a method's average over several models below it, references last; hidden carriers;
    controls."""
    metrics = read_metrics(out / "metrics.json")
    depth = metrics.settings["evaluate"]["k"][0]
    parts = _main(metrics, depth)
    if metrics.hidden is not None:
        parts.append(_hidden(metrics.hidden))
    for name, control in metrics.controls.items():
        if isinstance(control, LabelShiftTable):
            parts.append(_labels(control))
        else:
            heads = _columns("", control.summary, (), depth)
            parts.append(_precision(f"control: {name}", heads))
    parts.append(f"report: {out / 'report' / 'index.html'}")
    return "\n".join(parts)


def _main(metrics: Metrics, depth: int) -> list[str]:
    """One table, or one per scope where there are both measures."""
    average, title = metrics.ensemble, f"precision@{depth}"
    means = ((), ()) if average is None else (average.unnamed.summary, average.named.summary)
    models = len({row.seed for row in metrics.rows})
    unnamed = _columns("unnamed ", metrics.unnamed.summary, means[0], depth)
    if not unnamed:
        heads = _columns("", metrics.summary, means[1], depth)
        return [_precision(f"{title} (95% interval)", heads, models)]
    both = [*unnamed, *_columns("named ", metrics.summary, means[1], depth)]
    scopes = dict.fromkeys(head.column.scope for head in both)
    found = {scope: [head for head in both if head.column.scope == scope] for scope in scopes}
    return [
        _precision(f"{title}, {scope} queries (95% interval)", heads, models)
        for scope, heads in found.items()
    ]


def _columns(
    measure: str,
    rows: Iterable[PrecisionSummary],
    averages: Iterable[PrecisionSummary],
    depth: int,
) -> list[_Head]:
    """The columns of one measure; each names its scope where it is the only one."""
    kept = [row for row in rows if row.k == depth and row.attribute == "all"]
    single, average = cells(kept), cells(row for row in averages if row.k == depth)
    return [
        _Head(f"{measure or f'{c.scope} '}{c.scenario.upper()}", c, single, average)
        for c in columns(kept)
    ]


def _precision(title: str, heads: Sequence[_Head], models: int = 1) -> str:
    def lines(names: Iterable[str], *, averages: bool) -> list[list[str]]:
        body = []
        for name in names:
            shown = f"{name} ({LADDER[name].short})" if is_ablation(name) else name
            single = [head.single.get((name, head.column)) for head in heads]
            average = [head.average.get((name, head.column)) for head in heads]
            if any(single):
                body.append([shown, *map(_cell, single)])
            if any(average) and averages:
                body.append([f"  average of {models}", *map(_cell, average)])
        return body

    texts = [head.text for head in heads]
    above, below = lines(ATTRIBUTION, averages=True), lines(REFERENCES, averages=False)
    return text_table(title, ["method"], texts, above, below)


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
    """The control's local questions, out of distribution where there are any."""
    shown = sorted({(row.scope, row.scenario) for row in table.summary})
    at = max(shown, key=lambda at: (at[0] == "local", at[1] == "ood"), default=("local", "ood"))

    def lines(names: Sequence[str]) -> list[list[str]]:
        return [
            [row.method, f"{row.picture_only:.2f}", f"{row.label_only:.2f}"]
            for row in table.summary
            if (row.scope, row.scenario) == at and row.method in names
        ]

    title = f"control: wrong-label, {at[0]} {at[1].upper()}, rank percentile"
    heads = ["picture only", "label only"]
    return text_table(title, ["method"], heads, lines(ATTRIBUTION), lines(REFERENCES))
