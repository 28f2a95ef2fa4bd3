"""What the models show that were trained without some images, as a text table."""

from collections.abc import Sequence

import numpy as np

from ctrak_jax.run.retraining import RemovalRow, left_out
from ctrak_jax.terminal.table import text_table


def counterfactual_table(rows: Sequence[RemovalRow]) -> str:
    """The rows as a table, question by question, mean over training seeds."""
    groups: dict[tuple[str, str], dict[str, list[RemovalRow]]] = {}
    for row in rows:
        question = (row.query.removesuffix("-global"), f"{row.attribute}={row.value}")
        groups.setdefault(question, {}).setdefault(row.removed_by, []).append(row)
    body = []
    for question, removed in groups.items():
        body += [(*question, *_cells(by, found)) for by, found in removed.items()]
    title = f"retrained ({len({row.seed for row in rows})} training seeds)"
    left, right = (
        ("images of", "concept", "left out"),
        ("carriers", "left", "presence", "loss rise"),
    )
    return text_table(title, left, right, body)


def _cells(by: str, rows: Sequence[RemovalRow]) -> tuple[str, ...]:
    def mean(field: str) -> float:
        return float(np.mean([getattr(row, field) for row in rows]))

    return (
        left_out(by, rows[0].removed),
        f"{mean('carriers_removed'):.0f}",
        f"{mean('carriers_left'):.0f}",
        "-" if rows[0].presence is None else f"{mean('presence'):.2f}",
        f"{mean('loss_rise'):+.4f}",
    )
