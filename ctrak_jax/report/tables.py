"""The page's tables and curves as data, which the templates turn into HTML."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ctrak_jax.metrics import Interval
from ctrak_jax.report.labels import LADDER, SCENARIO_SHORT, Label, is_ablation, label, ordered
from ctrak_jax.report.read import Results
from ctrak_jax.report.rows import (
    Column,
    cells,
    columns,
    damping_lines,
    hidden_cells,
    ladder_methods,
    lds_blocks,
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
    """A number with its interval, and what chance gives; a difference is ``signed``."""

    interval: Interval
    base_rate: float | None = None
    signed: bool = False


class NumberLine(NamedTuple):
    """A table line: a method, one entry per column."""

    name: Label
    entries: Sequence[Entry | None]


class NumberTable(NamedTuple):
    """A table of numbers, references last; ``best`` is the value of each column that is set bold:
    that of the best method, averages of models left out."""

    heads: Sequence[Head]
    lines: Sequence[NumberLine]
    best: Sequence[float | None]
    chance: Sequence[float] = ()


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


def ladder_table(results: Results) -> NumberTable:
    """The ablation, one ingredient a line; empty if it was not run."""
    steps, table = ladder_methods(results.summary), cells(results.summary)
    shown = columns(row for row in results.summary if is_ablation(row.method))
    lines = [(LADDER[step], entries_of([table], step, shown)) for step in steps]
    return number_table([head_of(column) for column in shown], lines)


def without_embedding(results: Results) -> NumberTable:
    """The main numbers beside those without the condition embedding's gradients."""
    rows = results.no_condition_embedding
    shown, tables = columns(rows), [cells(results.summary), cells(rows)]
    return number_table(
        [head_of(column, note) for column in shown for note in ("all parameters", "without")],
        [(label(m), entries_of(tables, m, shown)) for m in ordered(row.method for row in rows)],
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
    heads = [head_of(column, note) for column in shown for note in ("picture only", "label only")]
    return number_table(heads, lines, mark_best=False)


def hidden_tables(results: Results) -> dict[str, NumberTable]:
    """What is found of carriers that are not named, one table per scope: their share among the
    first of all candidates; precision and recall among the unlabelled, and among
    the labelled."""
    if results.hidden is None:
        return {}
    k, deep, summary = results.k, results.hidden.k, results.hidden.summary
    found, shown, tables = hidden_cells(summary), columns(summary), {}
    measures: list[tuple[str, str, int]] = [(f"share of the top {deep}", "all", deep)]
    for among in ("unlabelled", "labelled"):
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
        named = [head_of(column, note) for column, note, *_ in heads]
        tables[scope] = number_table(named, lines, mark_best=False)
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
            (
                _told(line.method, line.condition),
                [row and Entry(row.interval) for row in line.cells],
            )
            for line in lines
        ]
        tables[output] = number_table([head_of(column) for column in shown], body)
    return tables


def lds_differences(table: LdsTable | None) -> dict[str, NumberTable]:
    """The method under study minus each other, one table per output."""
    if table is None:
        return {}
    tables = {}
    for output in dict.fromkeys(row.output for row in table.differences):
        rows = [row for row in table.differences if row.output == output]
        found = {(row.rival, row.condition, Column(row.scope, row.scenario)): row for row in rows}
        shown = columns(rows)
        lines = [
            (
                _told(rival, condition),
                [
                    row and Entry(Interval(row.difference, *row.ci95_subsets), signed=True)
                    for row in (found.get((rival, condition, column)) for column in shown)
                ],
            )
            for condition in dict.fromkeys(row.condition for row in rows)
            for rival in ordered(row.rival for row in rows if row.condition == condition)
        ]
        heads = [head_of(column) for column in shown]
        tables[output] = number_table(heads, lines, mark_best=False)
    return tables


def settings(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    """Settings as dotted names and values."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from settings(inner, f"{name}.{key}" if name else str(key))
    elif name:
        yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _told(method: str, condition: str) -> Label:
    name = label(method)
    return name if condition == NAMED else name._replace(note=condition)


def head_of(column: Column, note: str = "") -> Head:
    """The head of a column of one measure."""
    return Head(f"{SCENARIO_SHORT[column.scenario]}, {column.scope}", note)


def entries_of(
    tables: Sequence[Mapping[tuple[str, Column], Any]], method: str, shown: Sequence[Column]
) -> list[Entry | None]:
    """One entry of a method per column and table."""
    rows = [table.get((method, column)) for column in shown for table in tables]
    return [row and Entry(row.interval, row.base_rate) for row in rows]


def number_table(
    heads: Sequence[Head],
    lines: Sequence[tuple[Label, Sequence[Entry | None]]],
    *,
    chance: Sequence[float] = (),
    mark_best: bool = True,
) -> NumberTable:
    """A table of lines (name, one entry per head), and what chance gives in each column."""
    methods = [entries for name, entries in lines if not (name.reference or name.average)]
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
