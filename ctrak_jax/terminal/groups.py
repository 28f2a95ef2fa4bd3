"""Influence by group as text."""

from ctrak_jax.report.groups import GroupRow, GroupTable
from ctrak_jax.report.labels import label
from ctrak_jax.terminal.table import text_table

ROWS = 20
"""Groups that are printed, those of the largest totals."""


def groups_table(table: GroupTable) -> str:
    """The overview: sums with intervals, means, shares beside base rates."""
    rows = table.overview
    title = (
        f"Influence by {table.by}: {label(table.method).short}, {table.asked} "
        "(95% interval over images)"
    )
    heads = ["images", "sum", "mean", f"share of top {table.k}", "base rate"]
    text = text_table(title, [table.by], heads, map(_cells, rows[:ROWS]))
    left = len(rows) - ROWS
    return text if left <= 0 else f"{text}{left:,} more groups are in groups.csv.\n"


def _cells(row: GroupRow) -> tuple[str, ...]:
    return (
        row.group,
        f"{row.images:,}",
        _interval(row.total, row.total_ci95),
        f"{row.mean:.3g}",
        f"{row.share:.3f}",
        f"{row.base_rate:.3f}",
    )


def _interval(value: float, ends: tuple[float, float] | None) -> str:
    return f"{value:.3g}" if ends is None else f"{value:.3g} [{ends[0]:.3g}, {ends[1]:.3g}]"
