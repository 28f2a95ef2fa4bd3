"""Charts as PNG files, one function a chart, on the Agg canvas without pyplot's global state."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import Container
from matplotlib.figure import Figure

from ctrak_jax.attribution.lds import spearman
from ctrak_jax.metrics import Interval
from ctrak_jax.report.labels import LADDER, MAIN, SCENARIO_SHORT, label, ordered
from ctrak_jax.report.measures import measures_of
from ctrak_jax.report.read import Results
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
from ctrak_jax.run.retraining import NAMED

_INK, _FAINT, _GRID = "#22262b", "#6b7280", "#e5e7eb"
_ACCENT, _PALE = "#0072b2", "#9ecae1"
# Colour-blind safe (Okabe and Ito), the accent kept for the method under study.
_COLOURS = {
    MAIN: _ACCENT,
    "das": "#e69f00",
    "das-paper": "#f5cf7a",
    "d-trak": "#009e73",
    "trak": "#cc79a7",
    "unlearning": "#8d8d8d",
    # References in shades of one pale colour.
    "labels": "#5b5346",
    "random": "#ece8e1",
    "similarity-pixels": "#cfc7b8",
    "similarity-latents": "#b3a995",
    "similarity-text": "#978b74",
    "similarity-clip": "#7b6f59",
}
_LINE_STYLE = {
    ("validation", "id"): ("#8d8d8d", "--"),
    ("report", "id"): ("#56b4e9", "-"),
    ("report", "ood"): (_ACCENT, "-"),
}
_DPI = 160
_LEGEND_ROW = 0.2
"""Inches that a row of a legend takes."""
PRECISION = "precision.png"
"""The chart of the main tables."""


def write_figures(folder: Path, results: Results) -> list[Path]:
    """Write every chart that ``results`` has the data for; returns the files written."""
    charts = {
        PRECISION: _precision(results),
        "ablation.png": _ablation(results),
        "damping.png": _damping(results.damping, results.k),
        "wrong_label.png": _wrong_label(results),
        "no_condition_embedding.png": _no_condition_embedding(results),
    }
    written = []
    for name, figure in charts.items():
        if figure is not None:
            figure.savefig(folder / name, dpi=_DPI)
            written.append(folder / name)
    return written


def write_scatter(
    path: Path,
    title: str,
    predicted: Mapping[tuple[str, str], np.ndarray],
    measured: Mapping[str, np.ndarray],
) -> None:
    """Sums of scores against what retrained models give, for one question: a row of panels per
    output, a column per method that answers it.

    Args:
        path: of the picture.
        title: what is asked.
        predicted: (method, condition of the candidates) -> [subset].
        measured: output -> [subset].
    """
    names = ordered(method for method, _ in predicted)
    shown = sorted(
        (name for name, values in predicted.items() if not np.isnan(values).any()),
        key=lambda name: (name[1], names.index(name[0])),
    )
    size = (0.8 + 1.5 * len(shown), 0.9 + 1.5 * len(measured))
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10, color=_INK, x=0.01, ha="left")
    grid = figure.subplots(len(measured), len(shown), squeeze=False, sharey="row", sharex="col")
    for panels, (output, values) in zip(grid, measured.items(), strict=True):
        panels[0].set_ylabel(output, color=_INK, fontsize=9)
        for axes, (method, condition) in zip(panels, shown, strict=True):
            sums = predicted[method, condition]
            axes.scatter(sums, values, s=9, color=_colour(method), linewidths=0)
            axes.tick_params(length=0, labelbottom=False, labelleft=False)
            axes.spines[["top", "right"]].set_visible(False)
            axes.spines[["left", "bottom"]].set_color(_GRID)
            found = spearman(sums[None], values[None])[0]
            text = "-" if np.isnan(found) else f"{found:.2f}"
            axes.set_title(text, fontsize=8, color=_FAINT, loc="right", pad=2)
    for axes, (method, condition) in zip(grid[-1], shown, strict=True):
        note = "" if condition == NAMED else f"\n{condition}"
        axes.set_xlabel(f"{label(method).short}{note}", fontsize=8, color=_INK)
    figure.savefig(path, dpi=_DPI)


def _axes(
    count: int, *, width: float, height: float, across: int | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels, ``across`` per row (default: all), and the panels."""
    across = across or count
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(-(-count // across), across, squeeze=False, sharey=True)
    panels = list(grid.flat)[:count]
    for axes in grid.flat[count:]:
        axes.remove()
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_GRID)
        axes.tick_params(colors=_FAINT, labelcolor=_INK, length=0)
        axes.grid(axis="y", color=_GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_ylim(0, 1.04)
    return figure, panels


def _bars(
    axes: Axes, place: int, bars: Sequence[tuple[Interval | None, str]], *, span: float = 0.76
) -> None:
    """A group of bars side by side around ``place``, given by interval and colour."""
    width = span / len(bars)
    for nth, (interval, colour) in enumerate(bars):
        if interval is not None:
            mean, low, high = interval
            x = place - span / 2 + (nth + 0.5) * width
            axes.bar(x, mean, width=0.9 * width, color=colour)
            # An interval need not hold the mean's rounded value; an error bar cannot be negative.
            reach = [[max(0.0, mean - low)], [max(0.0, high - mean)]]
            axes.errorbar(x, mean, yerr=reach, color=_INK, linewidth=1, capsize=2.5)


def _bar_legend(figure: Figure, entries: Sequence[tuple[str, str]]) -> None:
    probe = figure.axes[0]
    _legend(figure, [probe.bar(0, 0, color=colour, label=text) for text, colour in entries])


def _legend(figure: Figure, handles: Sequence[Artist | Container]) -> None:
    """Below the panels, as many entries in a row as the figure is wide for. A legend of more than
    two rows makes the figure taller, not the panels smaller."""
    most, size = min(len(handles), 6), figure.get_figheight()
    for across in range(most, 0, -1):
        legend = figure.legend(
            handles=list(handles),
            loc="outside lower center",
            ncols=across,
            frameon=False,
            fontsize=9,
        )
        if across == 1 or legend.get_window_extent().width <= figure.bbox.width:
            rows = -(-len(handles) // across)
            figure.set_figheight(size + _LEGEND_ROW * max(rows - 2, 0))
            return
        legend.remove()


def _colour(method: str) -> str:
    return _COLOURS.get(method, "#b0b0b0")


def _precision(results: Results) -> Figure | None:
    """A row of panels per measure, a panel per scope."""
    methods, measures = main_methods(results.summary), measures_of(results)
    scopes = list(dict.fromkeys(column.scope for column in columns(results.summary)))
    if not measures:
        return None
    figure, panels = _axes(
        len(measures) * len(scopes),
        width=1.5 + 3.6 * len(scopes),
        height=0.8 + 2.8 * len(measures),
        across=len(scopes),
    )
    for axes, (measure, scope) in zip(panels, product(measures, scopes), strict=True):
        table = cells(measure.rows)
        groups = [column for column in columns(measure.rows) if column.scope == scope]
        for place, column in enumerate(groups):
            bars = [(_interval(table, m, column), _colour(m)) for m in methods]
            bars.insert(sum(not label(m).reference for m in methods), (None, ""))  # a gap
            _bars(axes, place, bars, span=0.8)
            chance = base_rate(table.values(), column)
            axes.hlines(chance, place - 0.45, place + 0.45, colors=_INK, linestyles=":")
        axes.set_xticks(range(len(groups)), [SCENARIO_SHORT[g.scenario] for g in groups])
        axes.set_xlim(-0.6, len(groups) - 0.4)
        name = f"{measure.name}, {scope}" if results.unnamed else scope
        axes.set_title(f"{name} queries (dotted: chance)", fontsize=10, color=_INK, loc="left")
        axes.set_visible(bool(groups))
    for axes in panels[:: len(scopes)]:
        axes.set_ylabel(f"precision@{results.k}", color=_INK)
    _bar_legend(figure, [(label(method).short, _colour(method)) for method in methods])
    return figure


def _interval(
    table: Mapping[tuple[str, Column], PrecisionSummary], method: str, column: Column
) -> Interval | None:
    row = table.get((method, column))
    return None if row is None else row.interval


def _ablation(results: Results) -> Figure | None:
    steps, table = ladder_methods(results.summary), cells(results.summary)
    if not steps:
        return None
    shown = columns(row for row in results.summary if row.method in steps)
    groups = [column for column in shown if column.scope == shown[0].scope]
    colours = (_PALE, _ACCENT)[: len(groups)]
    figure, (axes,) = _axes(1, width=7.2, height=3.6)
    for place, step in enumerate(steps):
        intervals = [_interval(table, step, column) for column in groups]
        _bars(axes, place, list(zip(intervals, colours, strict=True)), span=0.7)
    ticks = [f"{LADDER[step].short}\n{LADDER[step].note}" for step in steps]
    axes.set_xticks(range(len(steps)), [_wrap(tick) for tick in ticks], fontsize=8)
    axes.set_ylabel(f"precision@{results.k}, {shown[0].scope} queries", color=_INK)
    entries = [(SCENARIO_SHORT[g.scenario], c) for g, c in zip(groups, colours, strict=True)]
    _bar_legend(figure, entries)
    return figure


def _wrap(text: str, width: int = 18) -> str:
    lines: list[str] = []
    for word in text.replace("\n", " \n ").split(" "):
        if word == "\n" or not lines or len(lines[-1]) + len(word) >= width:
            lines.append("" if word == "\n" else word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def _damping(dampings: Mapping[str, DampingCurve], k: int) -> Figure | None:
    drawn = {method: damping for method, damping in dampings.items() if damping_lines(damping)}
    if not drawn:
        return None
    across = min(len(drawn), 3)
    rows = -(-len(drawn) // across)
    figure, panels = _axes(
        len(drawn), width=1 + 2.9 * across, height=0.6 + 2.6 * rows, across=across
    )
    for axes, (method, damping) in zip(panels, drawn.items(), strict=True):
        for line in damping_lines(damping):
            colour, style = _LINE_STYLE[(line.split, line.scenario)]
            r, precision = zip(*line.points, strict=True)
            axes.plot(r, precision, color=colour, linestyle=style, marker="o", markersize=3)
        for chosen in sorted(set(damping.chosen.values())):
            axes.axvline(chosen, color=_INK, linewidth=0.8, linestyle=":")
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xlabel("damping factor r", color=_INK)
        axes.set_title(label(method).short, fontsize=10, color=_INK, loc="left")
    for axes in panels[::across]:
        axes.set_ylabel(f"precision@{k}", color=_INK)
    handles = [
        panels[0].plot([], [], color=colour, linestyle=style, label=text)[0]
        for text, (colour, style) in (
            (f"{split}, {SCENARIO_SHORT[scenario]}", look)
            for (split, scenario), look in _LINE_STYLE.items()
        )
    ]
    handles.append(panels[0].plot([], [], color=_INK, linestyle=":", label="chosen r")[0])
    _legend(figure, handles)
    return figure


def _wrong_label(results: Results) -> Figure | None:
    bars: dict[str, dict[str, Sequence[Interval | None]]] = {}
    for row in results.wrong_label:
        if row.scope == "local":
            bars.setdefault(row.scenario, {})[row.method] = row.intervals
    colours = {"picture only": _ACCENT, "label only": "#e69f00"}
    return _control(bars, colours, "mean rank percentile (1 = top)")


def _no_condition_embedding(results: Results) -> Figure | None:
    main, bars = cells(results.summary), dict[str, dict[str, Sequence[Interval | None]]]()
    for row in results.no_condition_embedding:
        if (row.scope, row.attribute) == ("local", "all"):
            before = _interval(main, row.method, Column(row.scope, row.scenario))
            bars.setdefault(row.scenario, {})[row.method] = (before, row.interval)
    colours = {"all parameters": _ACCENT, "without condition embedding": _PALE}
    return _control(bars, colours, f"precision@{results.k}, local queries")


def _control(
    bars: Mapping[str, Mapping[str, Sequence[Interval | None]]],
    colours: Mapping[str, str],
    what: str,
) -> Figure | None:
    """One panel per scenario of ``bars``, one pair of bars per method."""
    shown = [scenario for scenario in SCENARIO_SHORT if scenario in bars]
    if not shown:
        return None
    methods = ordered(method for found in bars.values() for method in found)
    names = [label(method).short for method in methods]
    each = max(3.6, 0.4 * len(names))
    figure, panels = _axes(len(shown), width=2 + each * len(shown), height=3.4)
    for axes, scenario in zip(panels, shown, strict=True):
        for place, method in enumerate(methods):
            pair = bars[scenario].get(method, (None, None))
            _bars(axes, place, list(zip(pair, colours.values(), strict=True)))
        # Slanted: the names do not fit side by side.
        axes.set_xticks(
            range(len(names)), names, fontsize=8, rotation=40, ha="right", rotation_mode="anchor"
        )
        axes.set_title(SCENARIO_SHORT[scenario], fontsize=10, color=_INK, loc="left")
    panels[0].set_ylabel(what, color=_INK)
    _bar_legend(figure, list(colours.items()))
    return figure
