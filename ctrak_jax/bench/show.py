"""A benchmark's result as a table on the terminal, as Markdown and as a bar chart."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ctrak_jax.terminal.table import text_table

LOG_RATIO = 30.0
"""Rates further apart than this stand on a logarithmic axis."""
NOTES = {
    "scaling": "All devices share one machine, and each makes the whole projection matrix: what "
    "changes is the cost of splitting, and the features must not.",
    "solve": "Difference: from the scores of the float64 spectrum. NumPy's are LAPACK in float32.",
    "projection": "The reference is NumPy in float64 with the matrix written out.",
}


def _heading(result: dict[str, Any]) -> str:
    """What was measured, on which machine."""
    return (
        f"{result['benchmark']}, batch {result['batch']}, k = {result['k']}, {result['device']} "
        f"({result['cores']} cores), jax {result['jax']}, float32 matmul peak "
        f"{result['matmul_peak_gflops_per_second']:.0f} GFLOP/s"
    )


def _cells(row: dict[str, Any], unit: str) -> dict[str, str]:
    """A row's figures by column; ``-`` where there is none."""

    def cell(form: str, known: Any = True) -> str:
        return form.format(**row) if known else "-"

    return {
        "work": row["name"],
        f"{unit}/s": _rate(row["samples_per_second"]),
        "run s [min, max]": cell("{run_s:.3g} [{run_min_s:.3g}, {run_max_s:.3g}]"),
        "lower + compile s": cell(
            "{lower_s:.1f} + {compile_s:.1f}", row["lower_s"] or row["compile_s"]
        ),
        "MiB (temporaries)": cell(
            "{peak_mib:.0f} ({temporaries_mib:.0f})", row["peak_mib"] is not None
        ),
        "GFLOP": cell("{gflops:.3g}", row["gflops"] is not None),
        "GFLOP/s (of peak)": cell("{gflops_per_second:.3g} ({share_of_peak:.0%})", row["gflops"]),
        "x peer": cell("{speedup:.2f}", row["speedup"] is not None),
        "difference": cell("{difference:.0e}", row["difference"] is not None),
    }


def _rate(value: float) -> str:
    """Three digits at least, and none behind the point of large numbers."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(result: dict[str, Any]) -> str:
    """The result for a terminal."""
    cells = [_cells(row, result["unit"]) for row in result["rows"]]
    rows = [list(row.values()) for row in cells]
    return text_table(_heading(result), [""], list(cells[0])[1:], rows, width=180)


def markdown(result: dict[str, Any]) -> str:
    """The result as a Markdown table under its heading."""
    cells = [_cells(row, result["unit"]) for row in result["rows"]]
    lines = [f"| {' | '.join(line)} |" for line in (cells[0], *(row.values() for row in cells))]
    lines.insert(1, "|" + "---|" * len(cells[0]))
    peers = [f"{row['name']}: {row['peer']}" for row in result["rows"] if row["peer"]]
    notes = [f"Median of {result['repeats']} calls, in turns. GFLOP: of matrix products."]
    notes += [f"Peers: {'; '.join(peers)}."] if peers else []
    notes += [NOTES[result["benchmark"]]] if result["benchmark"] in NOTES else []
    return "\n".join([f"{_heading(result)}.", "", *lines, "", " ".join(notes), ""])


def _chart(result: dict[str, Any], path: Path) -> None:
    """A bar per row, as long as its rate, from the slowest call to the fastest marked."""
    rows = result["rows"][::-1]
    fields = ("samples_per_second", "run_s", "run_min_s", "run_max_s")
    rates, median, least, most = np.array([[row[f] for row in rows] for f in fields])
    spread = [rates - rates * median / most, rates * median / least - rates]
    figure = Figure(figsize=(9.0, 1.2 + 0.34 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    names = [row["name"] for row in rows]
    bars = axes.barh(names, rates, xerr=spread, color="#0072b2", ecolor="#22262b", capsize=2)
    axes.bar_label(bars, labels=[_rate(rate) for rate in rates], padding=4, fontsize=8)
    if max(rates) > LOG_RATIO * min(rates):
        axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.set_xlabel(f"{result['unit']} per second, median; lines: slowest and fastest call")
    axes.set_title(_heading(result), fontsize=8, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def write(result: dict[str, Any], folder: Path) -> list[Path]:
    """Write ``<benchmark>.json``, ``.md`` and ``.png``; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{result['benchmark']}.{kind}" for kind in ("json", "md", "png")]
    files[0].write_text(json.dumps(result, indent=1) + "\n")
    files[1].write_text(markdown(result))
    _chart(result, files[2])
    return files
