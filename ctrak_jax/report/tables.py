"""The page's tables, curves and opening sentence as data, which the templates turn into HTML."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ctrak_jax.metrics import Interval
from ctrak_jax.report.labels import LADDER, MAIN, SCENARIO_SHORT, Label, is_ablation, label, ordered
from ctrak_jax.report.read import Results
from ctrak_jax.report.rows import (
    Column,
    LdsLine,
    base_rate,
    cells,
    columns,
    damping_lines,
    hidden_cells,
    ladder_methods,
    lds_blocks,
    main_methods,
)
from ctrak_jax.run.metrics import DampingCurve, HiddenSummary
from ctrak_jax.run.retraining import NAMED, LdsTable

LEFT, RIGHT, TOP, BOTTOM = 34, 290, 8, 164
"""The frame of a curve, in units of its SVG of 300 x 190."""


class Head(NamedTuple):
    """The head of a column."""

    name: str
    note: str = ""

    @property
    def full(self) -> str:
        return f"{self.name}, {self.note}" if self.note else self.name


class Entry(NamedTuple):
    """A number with its interval, and what chance gives."""

    interval: Interval
    base_rate: float | None = None


class NumberLine(NamedTuple):
    """A table line: a method, one entry per column."""

    name: Label
    entries: Sequence[Entry | None]


class NumberTable(NamedTuple):
    """A table of numbers, references last; ``best`` is the value of each column that is set bold:
    that of the best method."""

    heads: Sequence[Head]
    lines: Sequence[NumberLine]
    best: Sequence[float | None]
    chance: Sequence[float] = ()


class Headline(NamedTuple):
    """Concept-TRAK against its best rivals in one column of the main table."""

    setting: str
    ours: Interval
    rivals: Sequence[str]
    rival: Interval | None
    chance: float


class Point(NamedTuple):
    """A point of a curve: its place, and what it says."""

    x: float
    y: float
    text: str


class Plot(NamedTuple):
    """A damping curve: gridlines, labels and upright lines by their places, and points."""

    title: str
    chosen: Sequence[str]
    levels: Mapping[str, float]
    decades: Mapping[int, float]
    marks: Sequence[float]
    lines: Mapping[str, Sequence[Point]]


def headline(results: Results) -> Headline | None:
    """Out of distribution where there is such a result; None without one of Concept-TRAK."""
    table = cells(results.summary)
    order = [Column(scope, scenario) for scope in ("local", "global") for scenario in ("ood", "id")]
    column = next((column for column in order if (MAIN, column) in table), None)
    if column is None:
        return None
    rivals = [
        row
        for (method, where), row in table.items()
        if where == column
        and method != MAIN
        and not (is_ablation(method) or label(method).reference)
    ]
    best = max((row.precision for row in rivals), default=None)
    leaders = {row.method: row.interval for row in rivals if row.precision == best}
    seen = "held out of" if column.scenario == "ood" else "seen in"
    queries = " (global queries)" if column.scope == "global" else ""
    return Headline(
        setting=f"On combinations {seen} training{queries}",
        ours=table[MAIN, column].interval,
        rivals=[label(method).short for method in ordered(leaders)],
        rival=next(iter(leaders.values()), None),
        chance=base_rate(table.values(), column),
    )


def main_table(results: Results) -> NumberTable:
    """Methods by scope and scenario, with intervals and the chance line."""
    shown, table = columns(results.summary), cells(results.summary)

    def count(column: Column) -> str:
        return f"{max(row.queries for (_, c), row in table.items() if c == column)} queries"

    return _table(
        [_head(column, count(column)) for column in shown],
        [(label(m), _entries([table], m, shown)) for m in main_methods(results.summary)],
        chance=[base_rate(table.values(), column) for column in shown],
    )


def ladder_table(results: Results) -> NumberTable:
    """The ablation, one ingredient a line; empty if it was not run."""
    steps, names, table = ladder_methods(results.summary), dict(LADDER), cells(results.summary)
    shown = columns(row for row in results.summary if is_ablation(row.method))
    lines = [(names[step], _entries([table], step, shown)) for step in steps]
    return _table([_head(column) for column in shown], lines)


def attribute_tables(results: Results) -> dict[str, NumberTable]:
    """Precision attribute by attribute, one table per scope."""
    rows = [row for row in results.summary if row.attribute != "all"]
    names = sorted({row.attribute for row in rows})
    tables = {}
    for scope in dict.fromkeys(column.scope for column in columns(rows)):
        shown = [
            (name, column)
            for name in names
            for column in columns(row for row in rows if row.attribute == name)
            if column.scope == scope
        ]
        by_name = {name: cells(rows, attribute=name) for name in names}
        methods = ordered(row.method for row in rows if row.scope == scope)
        lines = [
            (label(m), [e for name, c in shown for e in _entries([by_name[name]], m, [c])])
            for m in methods
        ]
        heads = [Head(f"{name}, {SCENARIO_SHORT[column.scenario]}") for name, column in shown]
        tables[scope] = _table(heads, lines)
    return tables


def without_embedding(results: Results) -> NumberTable:
    """The main numbers beside those without the condition embedding's gradients."""
    rows = results.no_condition_embedding
    shown, tables = columns(rows), [cells(results.summary), cells(rows)]
    return _table(
        [_head(column, note) for column in shown for note in ("all parameters", "without")],
        [(label(m), _entries(tables, m, shown)) for m in ordered(row.method for row in rows)],
        mark_best=False,
    )


def wrong_labels(results: Results) -> NumberTable:
    """Rank percentiles of the images that carry a concept in the picture or in the label only."""
    rows = results.wrong_label
    shown = columns(rows)
    table = {(row.method, Column(row.scope, row.scenario)): row.intervals for row in rows}
    none = (None, None)
    lines = [
        (
            label(method),
            [i and Entry(i) for column in shown for i in table.get((method, column), none)],
        )
        for method in ordered(row.method for row in rows)
    ]
    heads = [_head(column, note) for column in shown for note in ("picture only", "label only")]
    return _table(heads, lines, mark_best=False)


def hidden_tables(results: Results) -> dict[str, NumberTable]:
    """What is found of carriers that are not named, one table per scope: their share among the
    first of all candidates; precision and recall among the unnamed, and among the named."""
    if results.hidden is None:
        return {}
    k, deep, summary = results.k, results.hidden.k, results.hidden.summary
    found, shown, tables = hidden_cells(summary), columns(summary), {}
    measures: list[tuple[str, str, int]] = [(f"share of the top {deep}", "all", deep)]
    for among in ("unnamed", "named"):
        measures += [
            (f"precision@{k}, {among}", among, k),
            (f"recall@{deep}, {among}", among, deep),
        ]
    for scope in dict.fromkeys(column.scope for column in shown):
        heads = [(c, *measure) for c in shown if c.scope == scope for measure in measures]
        lines = [
            (
                label(method),
                [
                    _hidden_entry(found.get((method, among, depth, column)), note)
                    for column, note, among, depth in heads
                ],
            )
            for method in ordered(row.method for row in summary if row.scope == scope)
        ]
        named = [_head(column, note) for column, note, *_ in heads]
        tables[scope] = _table(named, lines, mark_best=False)
    return tables


def _hidden_entry(row: HiddenSummary | None, measure: str) -> Entry | None:
    if row is None:
        return None
    precision, recall = row.intervals
    return Entry(recall) if measure.startswith("recall") else Entry(precision, row.base_rate)


def plots(dampings: Mapping[str, DampingCurve]) -> list[Plot]:
    """A small curve for each method that has a damping factor: precision against r, log axis."""
    return [
        _plot(method, damping) for method, damping in dampings.items() if damping_lines(damping)
    ]


def lds_tables(table: LdsTable | None) -> dict[str, NumberTable]:
    """Methods by scope and scenario, one table per output."""
    if table is None:
        return {}
    tables = {}
    for output, shown, lines in lds_blocks(table.summary):
        body = [
            (_lds_label(line), [row and Entry(row.interval) for row in line.cells])
            for line in lines
        ]
        tables[output] = _table([_head(column) for column in shown], body)
    return tables


def settings(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    """Settings as dotted names and values."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from settings(inner, f"{name}.{key}" if name else str(key))
    elif name:
        yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _lds_label(line: LdsLine) -> Label:
    name = label(line.method)
    return name if line.condition == NAMED else Label(name.short, line.condition)


def _head(column: Column, note: str = "") -> Head:
    return Head(f"{SCENARIO_SHORT[column.scenario]}, {column.scope}", note)


def _entries(
    tables: Sequence[Mapping[tuple[str, Column], Any]], method: str, shown: Sequence[Column]
) -> list[Entry | None]:
    """One entry per column and table."""
    rows = [table.get((method, column)) for column in shown for table in tables]
    return [row and Entry(row.interval, row.base_rate) for row in rows]


def _table(
    heads: Sequence[Head],
    lines: Sequence[tuple[Label, Sequence[Entry | None]]],
    *,
    chance: Sequence[float] = (),
    mark_best: bool = True,
) -> NumberTable:
    methods = [entries for name, entries in lines if not name.reference]
    best = [
        max((e.interval.mean for e in column if e is not None and mark_best), default=None)
        for column in zip(*methods, strict=True)
    ] or [None] * len(heads)
    return NumberTable(heads, [NumberLine(*line) for line in lines], best, chance)


def _plot(method: str, damping: DampingCurve) -> Plot:
    lines, marks = damping_lines(damping), sorted(set(damping.chosen.values()))
    logs = [math.log10(r) for r in [*marks, *(r for line in lines for r, _ in line.points)]]
    low, high = min(logs), max(logs)
    if low == high:
        low, high = low - 0.5, high + 0.5

    def x(r: float) -> float:
        return round(LEFT + (math.log10(r) - low) / (high - low) * (RIGHT - LEFT), 1)

    def y(precision: float) -> float:
        return round(BOTTOM - precision * (BOTTOM - TOP), 1)

    decades = range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)
    few = decades[:: max(1, -(-len(decades) // 6))]  # more than about six run into each other
    return Plot(
        title=label(method).full,
        chosen=[f"{r:g}" for r in marks],
        levels={f"{level:g}": y(level) for level in (0.0, 0.5, 1.0)},
        decades={power: x(10.0**power) for power in few},
        marks=[x(r) for r in marks],
        lines={
            "validation" if line.split == "validation" else line.scenario: [
                Point(x(r), y(precision), f"r = {r:g}: {precision:.2f}")
                for r, precision in line.points
            ]
            for line in lines
        },
    )
