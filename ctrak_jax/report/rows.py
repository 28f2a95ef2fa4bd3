"""Choosing rows of a summary: what tables, charts and the opening sentence share."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from ctrak_jax.report.labels import LADDER, SCENARIOS, SCOPES, is_ablation, label, ordered
from ctrak_jax.run.metrics import (
    DampingCurve,
    HiddenSummary,
    LabelShiftSummary,
    PrecisionSummary,
)
from ctrak_jax.run.retraining import LdsDifference, LdsSummary


class Column(NamedTuple):
    """A column of the main table."""

    scope: str
    scenario: str


class DampingLine(NamedTuple):
    """One line of a damping plot: (r, precision) points by rising r."""

    split: str
    scenario: str
    points: tuple[tuple[float, float], ...]


class LdsLine(NamedTuple):
    """What one method, its candidates featurized under a condition, reaches in every column."""

    method: str
    condition: str
    cells: list[LdsSummary | None]


class LdsBlock(NamedTuple):
    """The table of one output of retrained models."""

    output: str
    columns: tuple[Column, ...]
    lines: list[LdsLine]


def columns(
    rows: Iterable[
        PrecisionSummary | LabelShiftSummary | HiddenSummary | LdsSummary | LdsDifference
    ],
) -> tuple[Column, ...]:
    """The (scope, scenario) pairs that occur in ``rows``, local before global, ID before OOD."""
    present = {(row.scope, row.scenario) for row in rows}
    known = [(scope, scenario) for scope in SCOPES for scenario in SCENARIOS]
    return tuple(Column(*pair) for pair in known if pair in present)


def cells(
    rows: Iterable[PrecisionSummary], *, attribute: str = "all"
) -> Mapping[tuple[str, Column], PrecisionSummary]:
    """Summary rows of one attribute by (method, column)."""
    return {
        (row.method, Column(row.scope, row.scenario)): row
        for row in rows
        if row.attribute == attribute
    }


def hidden_cells(
    rows: Iterable[HiddenSummary], *, attribute: str = "all"
) -> Mapping[tuple[str, str, int, Column], HiddenSummary]:
    """Summary rows of one attribute by (method, candidates ranked, depth, column)."""
    return {
        (row.method, row.among, row.k, Column(row.scope, row.scenario)): row
        for row in rows
        if row.attribute == attribute
    }


def main_methods(rows: Iterable[PrecisionSummary]) -> tuple[str, ...]:
    """Methods of the main table, references last: all but the ladder's steps, or those if no other
    method ran."""
    present = ordered(row.method for row in rows)
    kept = tuple(method for method in present if not is_ablation(method))
    return present if all(label(method).reference for method in kept) else kept


def ladder_methods(rows: Iterable[PrecisionSummary]) -> tuple[str, ...]:
    """The ladder's steps that ran, base first; empty without an ablation."""
    present = {row.method for row in rows}
    steps = tuple(method for method in LADDER if method in present)
    return steps if any(is_ablation(method) for method in steps) else ()


def base_rate(rows: Iterable[PrecisionSummary], column: Column) -> float:
    """Chance precision in ``column``: every method faces the same queries, so any row's will do."""
    return fmean(row.base_rate for row in rows if Column(row.scope, row.scenario) == column)


def damping_lines(damping: DampingCurve) -> list[DampingLine]:
    """Validation ID, report ID, report OOD of the local queries (global where no local ran)."""
    scopes = {point.scope for point in damping.curve}
    scope = next((scope for scope in SCOPES if scope in scopes), None)
    lines = []
    for split, scenario in (("validation", "id"), ("report", "id"), ("report", "ood")):
        points = sorted(
            (point.r, point.precision)
            for point in damping.curve
            if (point.scope, point.split, point.scenario) == (scope, split, scenario)
        )
        if points:
            lines.append(DampingLine(split, scenario, tuple(points)))
    return lines


def lds_blocks(summary: Sequence[LdsSummary]) -> Iterator[LdsBlock]:
    """Output by output, the methods in reading order."""
    for output in dict.fromkeys(row.output for row in summary):
        rows = [row for row in summary if row.output == output]
        found = {(row.method, row.condition, Column(row.scope, row.scenario)): row for row in rows}
        shown = columns(rows)
        lines = [
            LdsLine(method, condition, [found.get((method, condition, at)) for at in shown])
            for condition in dict.fromkeys(row.condition for row in rows)
            for method in ordered(row.method for row in rows if row.condition == condition)
        ]
        yield LdsBlock(output, shown, lines)
