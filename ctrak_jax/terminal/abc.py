"""The tables of the AbC benchmark, as Markdown that also reads as text.

Published figures: Recall@10 of the ablation over 48 samples of AbC, from "Concept-TRAK:
Understanding how diffusion models learn concepts through concept attribution", ICLR 2026. They
were measured with the published code, whose differences from ours ``docs/howto/abc.md`` lists.
"""

from collections.abc import Mapping, Sequence

from ctrak_jax.metrics import Interval
from ctrak_jax.report.labels import LADDER, label, ordered
from ctrak_jax.retrieval import Summary

PUBLISHED_RECALL_AT_10 = {
    "ablation-base": 0.04,
    "ablation-a": 0.261,
    "ablation-b": 0.335,
    "ablation-c": 0.564,
    "concept-trak": 0.955,
}
"""The ablation on AbC, by method."""


def benchmark_table(rows: Sequence[Summary], group: str = "all", *, found: bool = False) -> str:
    """Rows are methods, columns Recall at every depth and mean average precision; by another
    ``group``, such as "test_case", every value of it has a row for each method. With ``found``
    Found at every depth takes the place of Recall.

    Raises:
        ValueError: no row of this group, or rows of differing depths.
    """
    chosen = [row for row in rows if row.group == group]
    if not chosen:
        known = ", ".join(sorted({row.group for row in rows})) or "none"
        raise ValueError(f"no result by {group!r}; the groups are: {known}.")
    depths = tuple(chosen[0].recall)
    if any(tuple(row.recall) != depths for row in chosen):
        raise ValueError("results of differing depths; compute all at the same.")
    first = [] if group == "all" else [group.replace("_", " ")]
    name = "Found" if found else "Recall"
    header = [*first, "method", "tasks", *(f"{name}@{k}" for k in depths), "mAP"]
    places = {method: place for place, method in enumerate(ordered(r.method for r in chosen))}
    body = [
        [
            *([row.value] if first else []),
            label(row.method).short,
            str(row.tasks),
            *(_cell((row.found if found else row.recall)[k]) for k in depths),
            _cell(row.mean_average_precision),
        ]
        for row in sorted(chosen, key=lambda r: (r.value, places[r.method]))
    ]
    return _markdown(header, body, left=len(first) + 1)


def ablation_table(rows: Sequence[Summary]) -> str:
    """The ablation over all tasks: Recall@10 beside the published figure, which steps that did not
    run show alone.

    Raises:
        ValueError: no step of the ablation is among the rows, or one has no Recall@10.
    """
    found = {row.method: row for row in rows if row.group == "all"}
    if not found.keys() & LADDER.keys():
        raise ValueError(f"no result of a step of the ablation, which are: {', '.join(LADDER)}.")
    body = []
    for method, step in LADDER.items():
        row = found.get(method)
        if row is not None and 10 not in row.recall:
            raise ValueError(f"{method}: no Recall@10, got the depths {list(row.recall)}.")
        published = f"{PUBLISHED_RECALL_AT_10[method]:.3f}"
        here = "-" if row is None else _cell(row.recall[10])
        body.append([step.short, step.note, here, published])
    return _markdown(["step", "change", "Recall@10", "published"], body, left=2)


def controls_table(columns: Mapping[str, Mapping[str, Interval]]) -> str:
    """Recall@10 by method (rows) and by what the candidates were (columns)."""
    methods = ordered(dict.fromkeys(method for found in columns.values() for method in found))
    body = [
        [label(method).short, *(_cell(found[method]) for found in columns.values())]
        for method in methods
    ]
    return _markdown(["Recall@10", *columns], body, left=1)


def _cell(found: Interval) -> str:
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _markdown(header: Sequence[str], body: Sequence[Sequence[str]], *, left: int) -> str:
    """Columns of even width; the first ``left`` of them begin at the left, the others end right."""
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    rule = ["-" * w if place < left else "-" * (w - 1) + ":" for place, w in enumerate(widths)]
    lines = []
    for cells in (header, rule, *body):
        padded = [cell.ljust(w) for cell, w in zip(cells[:left], widths[:left], strict=True)]
        padded += [cell.rjust(w) for cell, w in zip(cells[left:], widths[left:], strict=True)]
        lines.append(f"| {' | '.join(padded)} |\n")
    return "".join(lines)
