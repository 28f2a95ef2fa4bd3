"""The page's written parts and tables as HTML; every value passes through `html.escape`."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from ctrak_jax.metrics import Interval
from ctrak_jax.report.curve import damping_svg
from ctrak_jax.report.explorer import data_uri
from ctrak_jax.report.labels import LADDER, MAIN, SCENARIO_SHORT, is_ablation, label, ordered
from ctrak_jax.report.read import Answers, Results
from ctrak_jax.report.rows import (
    Column,
    base_rate,
    cells,
    columns,
    damping_lines,
    ladder_methods,
    main_methods,
)
from ctrak_jax.run.metrics import DampingCurve, PrecisionSummary

_NO_CELL = '<span class="none">&ndash;</span>'


class Entry(NamedTuple):
    """A number for a table cell."""

    interval: Interval
    base_rate: float | None = None


class Line(NamedTuple):
    """A table line: name, a quieter note, one entry a column."""

    name: str
    note: str
    entries: Sequence[Entry | None]


def answer(results: Results) -> str:
    """One sentence: Concept-TRAK against its best rival, out of distribution where there is one."""
    table = cells(results.summary)
    order = [Column("local", "ood"), Column("local", "id")]
    order += [Column("global", "ood"), Column("global", "id")]
    column = next((column for column in order if (MAIN, column) in table), None)
    if column is None:
        return f"No result of {escape(label(MAIN).short)} in this run; see the tables below."
    ours = table[MAIN, column]
    rivals = [
        row
        for (method, where), row in table.items()
        if where == column and method != MAIN and not is_ablation(method)
    ]
    setting = (
        "On combinations held out of training"
        if column.scenario == "ood"
        else "On combinations seen in training"
    )
    if column.scope == "global":
        setting += " (global queries)"
    k = results.k
    text = (
        f"{setting}, <strong>{_of_top(ours.precision, k)} of {escape(label(MAIN).short)}’s "
        f"top {k}</strong> training images carry the queried concept{_interval(ours, k)}"
    )
    chance = base_rate(table.values(), column)
    if rivals:
        best = max(row.precision for row in rivals)
        leaders = [row for row in rivals if row.precision == best]
        names = " and ".join(
            escape(label(method).short) for method in ordered(row.method for row in leaders)
        )
        text += f", against <strong>{_of_top(best, k)}</strong> for the best rival, {names}"
        text += _interval(leaders[0], k)
    if chance is not None:
        text += f"; chance gives {_of_top(chance, k)}"
    return text + "."


def main_table(results: Results) -> str:
    """Methods by scope and scenario, with intervals and the chance line."""
    shown = columns(results.summary)
    table = cells(results.summary)
    lines = [
        Line(label(method).short, label(method).note, [_entry(table, method, c) for c in shown])
        for method in main_methods(results.summary)
    ]
    heads = [
        (
            f"{SCENARIO_SHORT[column.scenario]}, {column.scope}",
            _query_count(row for (_, where), row in table.items() if where == column),
        )
        for column in shown
    ]
    chance = [base_rate(table.values(), column) for column in shown]
    return _table(heads, lines, chance=chance)


def ladder_table(results: Results) -> str:
    """The ablation, one ingredient a line; empty if it was not run."""
    steps = ladder_methods(results.summary)
    if not steps:
        return ""
    shown = columns(row for row in results.summary if is_ablation(row.method))
    table = cells(results.summary)
    names = dict(LADDER)
    lines = [
        Line(names[step].short, names[step].note, [_entry(table, step, c) for c in shown])
        for step in steps
    ]
    heads = [(f"{SCENARIO_SHORT[c.scenario]}, {c.scope}", "") for c in shown]
    return _section(
        "ablation",
        "Ablation",
        "Each step adds one ingredient to the step above it.",
        _table(heads, lines),
    )


def attribute_tables(results: Results) -> str:
    """Precision attribute by attribute, one table a scope."""
    names = sorted({row.attribute for row in results.summary} - {"all"})
    body = ""
    for scope in dict.fromkeys(column.scope for column in columns(results.summary)):
        shown = [
            (name, column)
            for name in names
            for column in columns(row for row in results.summary if row.attribute == name)
            if column.scope == scope
        ]
        if not shown:
            continue
        tables = {name: cells(results.summary, attribute=name) for name in names}
        lines = [
            Line(label(m).short, label(m).note, [_entry(tables[n], m, c) for n, c in shown])
            for m in ordered(row.method for row in results.summary if row.attribute != "all")
            if any((m, column) in tables[name] for name, column in shown)
        ]
        heads = [(f"{name}, {SCENARIO_SHORT[column.scenario]}", "") for name, column in shown]
        body += f"<h3>{escape(scope.capitalize())} queries</h3>" + _table(heads, lines)
    if not body:
        return ""
    return _section("attributes", "By attribute", "Which concepts are easy, which are hard.", body)


def damping_section(dampings: Mapping[str, DampingCurve]) -> str:
    """A small curve for each method that has a damping factor."""
    plots = ""
    for method, damping in dampings.items():
        if damping_lines(damping):
            values = ", ".join(f"{r:g}" for r in sorted(set(damping.chosen.values())))
            plots += (
                f"<figure><figcaption>{escape(label(method).full)}"
                f'<span class="ci">chosen r: {escape(values)}</span></figcaption>'
                f"{damping_svg(damping)}</figure>"
            )
    if not plots:
        return ""
    key = (
        '<p class="key"><span class="k validation">validation, ID</span>'
        '<span class="k id">report, ID</span><span class="k ood">report, OOD</span>'
        '<span class="k chosen">chosen r</span></p>'
    )
    lead = (
        "Precision against the damping factor r. It is chosen on the validation queries alone; "
        "the report queries are drawn to show what another choice would have given."
    )
    return _section("damping", "Damping", lead, key + f'<div class="plots">{plots}</div>')


def controls_section(results: Results) -> str:
    """Controls: without the condition embedding, and wrong labels."""
    body = _without_embedding(results) + _wrong_labels(results)
    if not body:
        return ""
    lead = "Does the ranking read the picture, or only the label it was trained with?"
    return _section("controls", "Controls", lead, body)


def samples_section(runs: Sequence[Answers]) -> str:
    """What each seed's model generates, where a contact sheet was made."""
    sheets = "".join(
        f"<figure><figcaption>training seed {run.seed}</figcaption>"
        f'<img class="sheet" alt="images generated by the model of seed {run.seed}" '
        f'src="{data_uri(run.samples.read_bytes())}"></figure>'
        for run in runs
        if run.samples is not None
    )
    if not sheets:
        return ""
    return _section("samples", "What the model generates", "", sheets)


def settings_section(settings: Mapping[str, Any]) -> str:
    """Settings as dotted names and values, folded away."""
    rows = "".join(
        f"<tr><th scope=row>{escape(name)}</th><td>{escape(value)}</td></tr>"
        for name, value in _flat(settings)
    )
    if not rows:
        return ""
    return (
        '<section id="settings"><details><summary><h2>Settings</h2></summary>'
        f'<table class="settings"><tbody>{rows}</tbody></table></details></section>'
    )


def _section(name: str, heading: str, lead: str, body: str) -> str:
    opening = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    return f'<section id="{name}"><h2>{escape(heading)}</h2>{opening}{body}</section>'


def _of_top(share: float, k: int) -> str:
    return f"{share * k:.1f}"


def _interval(row: PrecisionSummary, k: int) -> str:
    _, lo, hi = row.interval
    return f" (95% interval {_of_top(lo, k)} to {_of_top(hi, k)})"


def _query_count(rows: Iterable[PrecisionSummary]) -> str:
    counts = [row.queries for row in rows]
    return f"{max(counts)} queries" if counts else ""


def _entry(
    table: Mapping[tuple[str, Column], PrecisionSummary], method: str, column: Column
) -> Entry | None:
    row = table.get((method, column))
    return None if row is None else Entry(row.interval, row.base_rate)


def _percent(value: float) -> str:
    return f"{100 * min(1.0, max(0.0, value)):.1f}%"


def _cell(entry: Entry | None, head: str, best: bool) -> str:
    if entry is None:
        return f'<td data-head="{escape(head)}">{_NO_CELL}</td>'
    value, lo, hi = entry.interval
    interval = f'<span class="ci">{lo:.2f}&ndash;{hi:.2f}</span>'
    band = f'<i class="band" style="left:{_percent(lo)};right:{_percent(1 - hi)}"></i>'
    tick = ""
    if entry.base_rate is not None:
        tick = f'<i class="tick" style="left:{_percent(entry.base_rate)}"></i>'
    number = f'<span class="num{" best" if best else ""}">{value:.2f}</span>'
    dot = f'<i class="dot" style="left:{_percent(value)}"></i>'
    return (
        f'<td data-head="{escape(head)}">{number}{interval}'
        f'<span class="track" aria-hidden="true">{tick}{band}{dot}</span></td>'
    )


def _table(
    heads: Sequence[tuple[str, str]],
    lines: Sequence[Line],
    *,
    chance: Sequence[float | None] = (),
    mark_best: bool = True,
) -> str:
    """A table of numbers with their intervals; the best of a column is set bold."""
    best = [
        max((entry.interval.mean for entry in column if entry is not None), default=None)
        for column in zip(*(line.entries for line in lines), strict=True)
    ]
    # A phone shows no head row: each cell then carries its own head.
    titles = [f"{name}, {note}" if note else name for name, note in heads]
    head = "".join(
        f'<th scope=col>{escape(name)}<span class="ci">{escape(note)}</span></th>'
        for name, note in heads
    )
    body = ""
    for line in lines:
        row = "".join(
            _cell(entry, title, mark_best and entry is not None and entry.interval.mean == top)
            for entry, title, top in zip(line.entries, titles, best, strict=True)
        )
        note = f'<span class="note">{escape(line.note)}</span>' if line.note else ""
        body += f"<tr><th scope=row>{escape(line.name)}{note}</th>{row}</tr>"
    if any(rate is not None for rate in chance):
        row = "".join(
            f'<td data-head="{escape(title)}">{_NO_CELL if rate is None else f"{rate:.2f}"}</td>'
            for rate, title in zip(chance, titles, strict=True)
        )
        body += f'<tr class="chance"><th scope=row>Chance</th>{row}</tr>'
    return (
        f'<div class="scroll"><table class="numbers"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _without_embedding(results: Results) -> str:
    rows = results.no_condition_embedding
    shown = columns(rows)
    if not shown:
        return ""
    main, control = cells(results.summary), cells(rows)
    heads = [
        (f"{SCENARIO_SHORT[c.scenario]}, {c.scope}", note)
        for c in shown
        for note in ("all parameters", "without")
    ]
    lines = [
        Line(
            label(method).short,
            label(method).note,
            [_entry(table, method, c) for c in shown for table in (main, control)],
        )
        for method in ordered(row.method for row in rows)
    ]
    return (
        "<h3>Without the condition embedding</h3>"
        "<p>Features without the gradients of the condition embedding, the one layer that sees "
        "the label directly.</p>" + _table(heads, lines, mark_best=False)
    )


def _wrong_labels(results: Results) -> str:
    rows = results.wrong_label
    shown = list(
        dict.fromkeys(
            Column(scope, scenario)
            for scope in ("local", "global")
            for scenario in SCENARIO_SHORT
            if any((row.scope, row.scenario) == (scope, scenario) for row in rows)
        )
    )
    if not shown:
        return ""
    table = {(row.method, Column(row.scope, row.scenario)): row for row in rows}
    heads = [
        (f"{SCENARIO_SHORT[c.scenario]}, {c.scope}", note)
        for c in shown
        for note in ("picture only", "label only")
    ]
    lines = []
    for method in ordered(row.method for row in rows):
        entries: list[Entry | None] = []
        for column in shown:
            row = table.get((method, column))
            entries += [None, None] if row is None else list(map(Entry, row.intervals))
        lines.append(Line(label(method).short, label(method).note, entries))
    return (
        "<h3>Wrong labels</h3>"
        "<p>Some training images were given a wrong label. Mean rank percentile (the top of the "
        "ranking is 1) of those that show the concept without its label (picture only) "
        "and of those that carry its label without showing it (label only).</p>"
        + _table(heads, lines, mark_best=False)
    )


def _flat(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif name:
        yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)
