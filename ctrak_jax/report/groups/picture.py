"""Influence by group as a picture: bars with intervals, and the first images of each group."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ctrak_jax.data.raw import Images
from ctrak_jax.report.groups.table import GroupRow, GroupTable
from ctrak_jax.report.labels import label

GROUPS = 12
"""Groups that are shown, those of the largest totals."""
_INK, _FAINT, _GRID = "#22262b", "#6b7280", "#e5e7eb"
_ACCENT = "#0072b2"
_DPI = 160
# Inches: a row, the panels of bars, and what is around them; the gap is a share of a row.
_ROW, _PANEL, _NAMES, _SPACE, _ABOVE, _BELOW = 0.6, 2.0, 2.4, 0.3, 0.75, 0.45
_GAP = 0.05


def write_picture(path: Path, table: GroupTable, images: Images) -> Path:
    """Write the overview of a table as a PNG.

    Args:
        path: of the picture.
        table: of all groups.
        images: uint8 [N, H, W, 3], by dataset index.
    """
    rows = table.overview[:GROUPS]
    pictures = max(len(row.first) for row in rows)
    height, width = images.shape[1:3]
    tile = _ROW * width / height
    left = _NAMES + 3 * (_PANEL + _SPACE)
    size = (left + tile * pictures + _SPACE, _ABOVE + _ROW * len(rows) + _BELOW)
    figure = Figure(figsize=size, facecolor="white")
    FigureCanvasAgg(figure)

    def panel(start: float, across: float, title: str) -> Axes:
        low, high = _BELOW / size[1], _ROW * len(rows) / size[1]
        axes = figure.add_axes((start / size[0], low, across / size[0], high))
        axes.set_title(title, fontsize=9, color=_INK, loc="left")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(_GRID)
        axes.tick_params(colors=_FAINT, labelcolor=_INK, length=0, labelsize=8)
        axes.set_yticks([])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        return axes

    starts = [_NAMES + place * (_PANEL + _SPACE) for place in range(3)]
    total = panel(starts[0], _PANEL, "sum of scores")
    _bars(total, [(row.total, row.total_ci95) for row in rows])
    names = [f"{_short(row.group)} ({row.images:,})" for row in rows]
    total.set_yticks(range(len(rows)), names, parse_math=False)
    mean = panel(starts[1], _PANEL, "mean score")
    _bars(mean, [(row.mean, row.mean_ci95) for row in rows])
    _shares(panel(starts[2], _PANEL, f"share of the top {table.k} (line: of all)"), rows)
    _strips(panel(left, tile * pictures, "first images"), rows, images)
    few = len(rows) < len(table.overview)
    more = f", {len(rows)} of {len(table.overview):,} groups" if few else ""
    title = f"Influence by {table.by}: {label(table.method).short}, {table.asked}{more}"
    place = 1 - 0.2 / size[1]
    figure.suptitle(
        title,
        fontsize=11,
        color=_INK,
        x=0.1 / size[0],
        y=place,
        ha="left",
        va="center",
        parse_math=False,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI)
    return path


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27]}…"


def _bars(axes: Axes, values: Sequence[tuple[float, tuple[float, float] | None]]) -> None:
    axes.axvline(0, color=_FAINT, linewidth=0.8)
    axes.barh(range(len(values)), [value for value, _ in values], color=_ACCENT, height=0.6)
    for place, (_, interval) in enumerate(values):
        if interval is not None:
            axes.plot(interval, [place, place], color=_INK, linewidth=1.2, solid_capstyle="butt")
    axes.locator_params(axis="x", nbins=4)
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 4))


def _shares(axes: Axes, rows: Sequence[GroupRow]) -> None:
    axes.barh(range(len(rows)), [row.share for row in rows], color=_ACCENT, height=0.6)
    for place, row in enumerate(rows):
        axes.plot([row.base_rate] * 2, [place - 0.42, place + 0.42], color=_INK, linewidth=1.5)
    axes.set_xlim(0, 1)
    axes.locator_params(axis="x", nbins=4)


def _strips(axes: Axes, rows: Sequence[GroupRow], images: Images) -> None:
    """The first images of every group side by side, as high as a row."""
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    for place, row in enumerate(rows):
        for nth, hit in enumerate(row.first):
            extent = (nth + _GAP, nth + 1 - _GAP, place + 0.5 - _GAP, place - 0.5 + _GAP)
            picture = np.asarray(images[hit.index])
            axes.imshow(picture, extent=extent, interpolation="nearest", aspect="auto")
    axes.set_xlim(0, max(len(row.first) for row in rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
