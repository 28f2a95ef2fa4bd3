"""Precision by both measures (method.md, section 13): the opening sentence, the tables, and what
the page says of them.

Unnamed: candidates whose conditions do not name the attribute asked about. Named: candidates under
their own condition.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ctrak_jax.metrics import Interval
from ctrak_jax.report.labels import (
    MAIN,
    OURS,
    SCENARIO_NAMES,
    SCENARIO_SHORT,
    SCOPES,
    Label,
    average_label,
    is_ablation,
    label,
    ordered,
)
from ctrak_jax.report.read import Results
from ctrak_jax.report.rows import Column, base_rate, cells, columns, main_methods
from ctrak_jax.report.tables import Entry, Head, NumberTable, entries_of, head_of, number_table
from ctrak_jax.run.metrics import PrecisionSummary

_ASKED = tuple(Column(scope, scenario) for scope in SCOPES for scenario in ("ood", "id"))
"""What the opening sentence is about: the first of these that there is."""


class Measure(NamedTuple):
    """One of the two measures: the summary of single models, and of the average of several."""

    name: str
    rows: Sequence[PrecisionSummary]
    averages: Sequence[PrecisionSummary]

    def head(self, column: Column, *, alone: bool) -> Head:
        """The head of a column, with how many images are asked about."""
        found = cells(self.rows).items()
        count = max(row.queries for (_, c), row in found if c == column)
        queries = f"{count} queries" if count != 1 else "1 query"
        both = f"{self.name.capitalize()}, {SCENARIO_SHORT[column.scenario]}"
        return head_of(column, queries) if alone else Head(both, queries)


class Headline(NamedTuple):
    """Concept-TRAK against its best rivals in one column of one measure."""

    column: Column
    ours: Interval
    rivals: Sequence[str]
    rival: Interval | None
    chance: float

    @property
    def combinations(self) -> str:
        """As in "on combinations held out of training"."""
        seen = "held out of" if self.column.scenario == "ood" else "seen in"
        return f"combinations {seen} training{self._queries}"

    @property
    def place(self) -> str:
        """As in "out of distribution"."""
        return SCENARIO_NAMES[self.column.scenario] + self._queries

    @property
    def _queries(self) -> str:
        return " (global queries)" if self.column.scope == "global" else ""


class Headlines(NamedTuple):
    """The opening sentence by measure, in the same column; None for what there is no result of."""

    unnamed: Headline | None
    named: Headline | None


class ConditionNotes(NamedTuple):
    """What the candidates' conditions are, for the notes beside the numbers.

    Attributes:
        word: condition or caption.
        ours: what Concept-TRAK's training samples are denoised under, null or own; empty where it
            did not run.
        part: are fewer candidates ranked unnamed than named?
        only: the attributes that unnamed questions are about, where named ones are about others,
            too.
    """

    word: str
    ours: str
    part: bool
    only: Sequence[str]


def headlines(results: Results) -> Headlines:
    """Out of distribution where there is such a result; None without one of Concept-TRAK."""
    unnamed = _headline(results.unnamed, _ASKED)
    first = () if unnamed is None else (unnamed.column,)
    return Headlines(unnamed, _headline(results.summary, (*first, *_ASKED)))


def _headline(rows: Iterable[PrecisionSummary], order: Iterable[Column]) -> Headline | None:
    table = cells(rows)
    column = next((column for column in order if (MAIN, column) in table), None)
    if column is None:
        return None
    rivals = [
        row
        for (method, where), row in table.items()
        if where == column
        and method not in OURS
        and not (is_ablation(method) or label(method).reference)
    ]
    best = max((row.precision for row in rivals), default=None)
    leaders = {row.method: row.interval for row in rivals if row.precision == best}
    return Headline(
        column=column,
        ours=table[MAIN, column].interval,
        rivals=[label(method).short for method in ordered(leaders)],
        rival=next(iter(leaders.values()), None),
        chance=base_rate(table.values(), column),
    )


def conditions_of(results: Results) -> ConditionNotes:
    """What the settings and the tables say of the candidates' conditions."""

    def setting(section: str, name: str) -> Any:
        found = results.settings.get(section, {})
        return found.get(name) if isinstance(found, Mapping) else None

    ran = any(row.method == MAIN for row in results.summary)
    named = {row.attribute for row in results.summary} - {"all"}
    unnamed = results.unnamed_attributes
    return ConditionNotes(
        word="caption" if setting("model", "kind") == "text-to-image" else "condition",
        ours=(setting("trajectory", "condition") or "") if ran else "",
        part=setting("unnamed", "candidates") is not None,
        only=unnamed if named - set(unnamed) else (),
    )


def measures_of(results: Results) -> list[Measure]:
    """Those that were measured, unnamed first."""
    both = (
        Measure("unnamed", results.unnamed, results.unnamed_averages),
        Measure("named", results.summary, results.averages),
    )
    return [measure for measure in both if measure.rows]


def main_tables(results: Results) -> dict[str, NumberTable]:
    """Methods with intervals and the chance line: one table of every scope and scenario where there
    is one measure (its title is empty), else one per scope with both measures side by side. A
    method's average over several models stands below it."""
    shown = [(m, column) for m in measures_of(results) for column in columns(m.rows)]
    if not results.unnamed:
        return {"": _main_table(results, shown)}
    by_scope = {scope: [pair for pair in shown if pair[1].scope == scope] for scope in SCOPES}
    return {
        f"{scope.capitalize()} queries": _main_table(results, pairs)
        for scope, pairs in by_scope.items()
        if pairs
    }


def _main_table(results: Results, shown: Sequence[tuple[Measure, Column]]) -> NumberTable:
    def line(method: str, *, average: bool) -> list[Entry | None]:
        rows = [(m.averages if average else m.rows, column) for m, column in shown]
        return [entry for of, column in rows for entry in entries_of([cells(of)], method, [column])]

    lines: list[tuple[Label, Sequence[Entry | None]]] = []
    for method in main_methods(results.summary):
        lines.append((label(method), line(method, average=False)))
        average = line(method, average=True)
        if any(average) and not label(method).reference:
            lines.append((average_label(method, results.models), average))
    return number_table(
        [m.head(column, alone=not results.unnamed) for m, column in shown],
        lines,
        chance=[base_rate(cells(m.rows).values(), column) for m, column in shown],
    )


def attribute_tables(results: Results) -> dict[str, NumberTable]:
    """Precision attribute by attribute, one table per measure and scope, by title."""
    alone = not results.unnamed
    return {
        f"{scope.capitalize()} queries{'' if alone else f', {measure.name}'}": table
        for measure in measures_of(results)
        for scope, table in _by_attribute(measure.rows).items()
    }


def _by_attribute(summary: Iterable[PrecisionSummary]) -> dict[str, NumberTable]:
    rows = [row for row in summary if row.attribute != "all"]
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
            (label(m), [e for name, c in shown for e in entries_of([by_name[name]], m, [c])])
            for m in methods
        ]
        heads = [Head(f"{name}, {SCENARIO_SHORT[column.scenario]}") for name, column in shown]
        tables[scope] = number_table(heads, lines)
    return tables
