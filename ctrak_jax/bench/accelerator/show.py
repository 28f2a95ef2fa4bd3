"""The result as Markdown, which is also what the terminal shows, and as a chart where matplotlib is
installed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Figures = Mapping[str, Any]
COLUMNS: dict[str, dict[str, tuple[str, ...]]] = {
    "machine": {
        "TFLOP/s": ("tflops_per_second",),
        "GB/s": ("gb_per_second",),
        "Gop/s": ("gops_per_second",),
    },
    "numerics": {
        "relative error": ("relative_error", "dps_relative_error"),
        "1 - cosine": ("one_minus_cosine", "dps_one_minus_cosine"),
        "slider: relative error": ("slider_relative_error",),
        "slider: 1 - cosine": ("slider_one_minus_cosine",),
        "from XLA's": ("from_xla",),
        "same bits as XLA's": ("same_bits_as_xla",),
    },
    "projection": {
        "samples/s": ("samples_per_second",),
        "of matmul peak": ("share_of_matmul_peak",),
        "of roofline": ("share_of_roofline",),
        "bound by": ("bound_by",),
        "GB": ("bytes",),
        "G integer op": ("integers",),
        "TFLOP": ("flops",),
    },
    "plan": {
        "planned GiB": ("planned_gib",),
        "measured GiB": ("measured_gib",),
        "planned s": ("planned_s",),
        "measured s": ("measured_s",),
        "bound by": ("bound_by",),
        "GFLOP in program": ("gflop_in_program",),
        "GFLOP traced": ("gflop_traced",),
    },
    "features": {
        "samples/s": ("samples_per_second",),
        "of matmul peak": ("model_flop_utilisation",),
        "GFLOP per sample": ("gflop_per_sample",),
        "planned GiB": ("planned_gib",),
        "peak GiB so far": ("peak_gib_so_far",),
        "lower s": ("lower_s",),
        "compile s": ("compile_s",),
        "run s": ("run_s",),
    },
    "devices": {
        "samples/s": ("samples_per_second",),
        "times one device": ("times_one_device",),
        "relative error": ("relative_error",),
    },
    "pytorch": {
        "samples/s": ("samples_per_second",),
        "batch": ("batch",),
        "peak GiB": ("peak_gib",),
    },
}
"""Part -> column -> the figures that may stand in it."""
SCALES = {"GB": 1e-9, "G integer op": 1e-9, "TFLOP": 1e-12}
SHARES = ("of matmul peak", "of roofline", "same bits as XLA's")
NOTES = {
    "numerics": "The worst sample. Projections: beside the matrix in float64. Networks: "
    "features of dps, normalised, and of slider, beside those in float32 with the word highest on "
    "this device.",
    "projection": "The roofline is the largest of the three times that bytes, integer operations "
    "and products of bfloat16 matrices take at the rates above. Of matmul peak: 2 d k FLOPs per "
    "sample, although float32 gradients take several bfloat16 products.",
    "plan": "Planned: bytes of the compiled program, and the slower of its FLOPs and its bytes at "
    "the rates above. Measured GiB: most in use by the process, where the device says.",
    "features": "Inversion with guidance, gradients and projection. FLOPs: of the matrix products "
    "and convolutions of the traced program, without the projection.",
    "devices": "On a CPU the devices share its cores: only the numbers say something.",
    "pytorch": "Written from the formulas; see ctrak_jax.bench.accelerator.pytorch. Features are "
    "not projected. Products of float32 are TF32 on a GPU, as in JAX by default.",
}


def heading(result: Mapping[str, Any]) -> str:
    """What was measured, on which machine."""
    versions = result.get("versions", {})
    named = ", ".join(f"{name} {v}" for name, v in versions.items() if v)
    machine = f"{result['devices']} x {result['device']}" if "device" in result else "no device"
    cores = f", {result['cores']} CPU cores" if "cores" in result else ""
    took = f"{result['took_s']:.0f} s of {60 * result['minutes']:.0f} s"
    return f"{machine}{cores}. {named or 'Nothing ran'}. Took {took}."


def _cell(figures: Figures, column: str, names: Sequence[str]) -> str:
    value = next((figures[name] for name in names if figures.get(name) is not None), None)
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if column in SHARES:
        return f"{value:.1%}"
    value = value * SCALES.get(column, 1.0)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _table(part: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The measured rows of a part; columns that none has are left out."""
    cells = [
        {name: _cell(row["figures"], name, keys) for name, keys in COLUMNS[part].items()}
        for row in rows
    ]
    shown = [name for name in COLUMNS[part] if any(cell[name] != "-" for cell in cells)]
    lines = [["", *shown], ["---"] * (1 + len(shown))]
    lines += [
        [row["name"], *(cell[name] for name in shown)]
        for row, cell in zip(rows, cells, strict=True)
    ]
    return [f"| {' | '.join(line)} |" for line in lines]


def _parts(result: Mapping[str, Any]) -> list[str]:
    """How many measurements of each part ran, failed and were left out, and how long they took."""
    lines = ["| part | measured | failed | left out | s | CPU s |", f"|{' --- |' * 6}"]
    for part in result["asked"]:
        rows = [row for row in result["rows"] if row["part"] == part]
        counts = [sum(key in row for row in rows) for key in ("figures", "failed", "left_out")]
        times = [sum(row.get(key, 0.0) for row in rows) for key in ("seconds", "cpu_seconds")]
        cells = [part, *map(str, counts), *(f"{time:.0f}" for time in times)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def markdown(result: Mapping[str, Any]) -> str:
    """What ran; a table for every part that was asked for; what was left out or failed, with
    reasons."""
    lines = ["# Accelerator", "", heading(result), "", *_parts(result), ""]
    for part in result["asked"]:
        measured = [r for r in result["rows"] if r["part"] == part and "figures" in r]
        if measured:
            lines += [f"## {part}", "", *_table(part, measured), ""]
            lines += [NOTES[part], ""] if part in NOTES else []
            said = {row["name"]: row["figures"].get("note") for row in measured}
            notes = [f"{name}: {note}." for name, note in said.items() if note]
            lines += [*notes, ""] if notes else []
    for key, title in (("failed", "Failed"), ("left_out", "Left out")):
        found = [row for row in result["rows"] if key in row]
        lines += [f"## {title}", ""] if found else []
        by_reason: dict[tuple[str, str], list[str]] = {}
        for row in found:
            by_reason.setdefault((row["part"], row[key]), []).append(row["name"])
        lines += [f"- {part}: {'; '.join(n)}: {reason}" for (part, reason), n in by_reason.items()]
        lines += [""] if found else []
    return "\n".join(lines)


def write(result: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write ``accelerator.json``, ``.md`` and, with matplotlib, ``.png``; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"accelerator.{kind}" for kind in ("json", "md", "png")]
    files[0].write_text(json.dumps(result, indent=1) + "\n")
    files[1].write_text(markdown(result))
    rated = [r for r in result["rows"] if "samples_per_second" in r.get("figures", {})]
    if rated and _chart(result, rated, files[2]):
        return files
    return files[:2]


def _chart(result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], file: Path) -> bool:
    """A bar per row that has a rate, on a logarithmic axis."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    colors = {"projection": "#0072b2", "features": "#d55e00", "devices": "#009e73"}
    shown = rows[::-1]
    figure = Figure(figsize=(9.0, 1.2 + 0.26 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    rates = [row["figures"]["samples_per_second"] for row in shown]
    names = [f"{row['part']}: {row['name']}" for row in shown]
    bars = axes.barh(names, rates, color=[colors.get(r["part"], "#999999") for r in shown])
    axes.bar_label(bars, labels=[f"{rate:.3g}" for rate in rates], padding=4, fontsize=7)
    axes.set_xscale("log")
    axes.tick_params(labelsize=7)
    axes.margins(x=0.12)
    axes.set_xlabel("samples per second")
    axes.set_title(f"{result['devices']} x {result['device']}", fontsize=8, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)
    return True
