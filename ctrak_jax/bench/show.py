"""A benchmark's result as a table on the terminal, as Markdown and as a bar chart."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

LOG_RATIO = 30.0
"""Rates further apart than this stand on a logarithmic axis."""
NOTES = {
    "scaling": "All devices share one machine, and each makes the whole projection matrix: what "
    "changes is the cost of splitting, and the features must not.",
    "solve": "Difference: from the scores of the float64 spectrum. NumPy's are LAPACK in float32.",
    "projection": "The reference is NumPy in float64 with the matrix written out.",
}


def heading(result: dict[str, Any]) -> str:
    """What was measured, on which machine."""
    return (
        f"{result['benchmark']}, batch {result['batch']}, k = {result['k']}, {result['device']} "
        f"({result['cores']} cores), jax {result['jax']}, float32 matmul peak "
        f"{result['matmul_peak_gflops_per_second']:.0f} GFLOP/s"
    )


def columns(result: dict[str, Any]) -> list[str]:
    """Names of the columns that :func:`cells` fills."""
    return [
        f"{result['unit']}/s",
        "run s [min, max]",
        "lower + compile s",
        "MiB (temporaries)",
        "GFLOP",
        "GFLOP/s (of peak)",
        "x peer",
        "difference",
    ]


def cells(row: dict[str, Any]) -> list[str]:
    """A row's figures; ``-`` where there is none."""
    seconds = [f"{row[name]:.3g}" for name in ("run_s", "run_min_s", "run_max_s")]
    before, memory, rate = "-", "-", "-"
    if row["lower_s"] or row["compile_s"]:
        before = f"{row['lower_s']:.1f} + {row['compile_s']:.1f}"
    if row["peak_mib"] is not None:
        memory = f"{row['peak_mib']:.0f} ({row['temporaries_mib']:.0f})"
    if row["gflops"]:
        rate = f"{row['gflops_per_second']:.3g} ({row['share_of_peak']:.0%})"
    return [
        _rate(row["samples_per_second"]),
        f"{seconds[0]} [{seconds[1]}, {seconds[2]}]",
        before,
        memory,
        "-" if row["gflops"] is None else f"{row['gflops']:.3g}",
        rate,
        "-" if row["speedup"] is None else f"{row['speedup']:.2f}",
        "-" if row["difference"] is None else f"{row['difference']:.0e}",
    ]


def _rate(value: float) -> str:
    """Three digits at least, and none behind the point of large numbers."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(result: dict[str, Any]) -> str:
    """The result for a terminal."""
    shown = Table(title=heading(result), title_justify="left")
    shown.add_column("")
    for column in columns(result):
        shown.add_column(column, justify="right", no_wrap=True)
    for row in result["rows"]:
        shown.add_row(row["name"], *cells(row))
    console = Console(width=160)
    with console.capture() as capture:
        console.print(shown)
    return capture.get()


def markdown(result: dict[str, Any]) -> str:
    """The result as a Markdown table under its heading."""

    def line(values: Sequence[str]) -> str:
        return "| " + " | ".join(values) + " |"

    names = ["work", *columns(result)]
    lines = [line(names), "|" + "---|" * len(names)]
    lines += [line([row["name"], *cells(row)]) for row in result["rows"]]
    peers = [f"{row['name']}: {row['peer']}" for row in result["rows"] if row["peer"]]
    notes = [f"Median of {result['repeats']} calls, in turns. GFLOP: of matrix products."]
    notes += [f"Peers: {'; '.join(peers)}."] if peers else []
    notes += [NOTES[result["benchmark"]]] if result["benchmark"] in NOTES else []
    return "\n".join([f"{heading(result)}.", "", *lines, "", " ".join(notes), ""])


def chart(result: dict[str, Any], path: Path) -> None:
    """A bar a row, as long as its rate, from the slowest call to the fastest marked."""
    rows = result["rows"][::-1]
    rates = [row["samples_per_second"] for row in rows]
    work = [row["samples_per_second"] * row["run_s"] for row in rows]
    slowest = [w / row["run_max_s"] for w, row in zip(work, rows, strict=True)]
    fastest = [w / row["run_min_s"] for w, row in zip(work, rows, strict=True)]
    spread = [
        [rate - low for rate, low in zip(rates, slowest, strict=True)],
        [high - rate for rate, high in zip(rates, fastest, strict=True)],
    ]
    figure = Figure(figsize=(9.0, 1.2 + 0.34 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    names = [row["name"] for row in rows]
    bars = axes.barh(names, rates, xerr=spread, color="#0072b2", ecolor="#22262b", capsize=2)
    axes.bar_label(bars, labels=[_rate(rate) for rate in rates], padding=4, fontsize=8)
    if max(rates) > LOG_RATIO * min(rates):
        axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.set_xlabel(f"{result['unit']} a second, median; lines: slowest and fastest call")
    axes.set_title(heading(result), fontsize=8, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def write(result: dict[str, Any], folder: Path) -> list[Path]:
    """Write ``<benchmark>.json``, ``.md`` and ``.png``; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{result['benchmark']}.{kind}" for kind in ("json", "md", "png")]
    files[0].write_text(json.dumps(result, indent=1) + "\n")
    files[1].write_text(markdown(result))
    chart(result, files[2])
    return files
