"""What featurizing would take, as a table, and what its numbers are."""

from collections.abc import Callable, Mapping
from typing import Any

from ctrak_jax.plan.bounds import CHIP_COUNTS, KERNEL_PASSES
from ctrak_jax.plan.chips import GB, GIB, TERA
from ctrak_jax.terminal.table import text_table

ESTIMATED = (
    "Nothing was compiled: FLOPs are of the traced program, temporaries of the lives of its "
    "arrays, memory traffic of the weights alone; gathering weights in parts is not in the time.\n"
)


def text(found: Mapping[str, Any]) -> str:
    """The report as a table, and what its numbers are."""
    chip, rows = found["chip"], found["programs"]
    marks = {"asked": found["asked_batch_per_chip"], "largest": found["largest_batch_per_chip"]}
    heads = []
    for row in rows:
        said = [mark for mark, size in marks.items() if size == row["batch_per_chip"]]
        heads.append(f"{row['batch_per_chip']} per chip\n{', '.join(said)}")
    lines = [[label, *map(value, rows)] for label, value in _LINES.items()]
    for count in CHIP_COUNTS:
        rates = (_rounded(row["samples_per_second"][str(count)]) for row in rows)
        lines.append([f"samples per second at most, {count} chip{'s' * (count > 1)}", *rates])
    hours = (f"{row['hours']:.2f}" for row in rows)
    lines += [
        [f"hours at least, all sets, {found['chips']} chips", *hours],
        ["feature stores, all sets", *[f"{found['store_bytes'] / GB:,.1f} GB"] * len(rows)],
    ]
    how = ", estimated" if found.get("estimated") else ""
    title = (
        f"featurize on {found['topology']}{how}: {found['chips']} chips of "
        f"{chip['hbm'] / GIB:.0f} GiB, {chip['bandwidth'] / GB:.0f} GB/s, "
        f"{chip['flops'] / TERA:.0f} bfloat16 TFLOP/s; jax {found['jax']}"
    )
    return text_table(title, [""], heads, lines) + _notes(found)


def _rounded(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _gib(part: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: f"{row['memory'][part] / GIB:.3f} GiB"


def _collectives(row: Mapping[str, Any]) -> str:
    found = row["collectives"].items()
    return ", ".join(f"{c['calls']} {k}, {c['bytes'] / 1e6:.1f} MB" for k, c in found) or "none"


_LINES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "arguments, per chip": _gib("arguments"),
    "outputs": _gib("outputs"),
    "temporaries": _gib("temporaries"),
    "code": _gib("code"),
    "together": lambda row: f"{row['memory']['total'] / GIB:.3f} GiB = {row['share_of_hbm']:.0%}",
    "GFLOP per sample": lambda row: f"{row['flops_per_sample'] / GB:,.1f}",
    "  projection's": lambda row: f"{row['projection_flops_per_sample'] / GB:,.1f}",
    "  in bfloat16 passes": lambda row: f"{row['passes_per_sample'] / GB:,.1f}",
    "MB of memory traffic per sample": lambda row: f"{row['bytes_per_sample'] / 1e6:,.1f}",
    "collectives per call": _collectives,
    "roofline time per sample": lambda row: f"{row['seconds_per_sample'] * 1e3:.3f} ms",
    "bound by": lambda row: row["bound_by"],
}


def _notes(found: Mapping[str, Any]) -> str:
    projection = "in the program's own"
    if found["projection"] == "pallas_tpu":
        projection = f"added by formula, 2 d k per gradient, {KERNEL_PASSES} passes"
    cores, said = found["devices"] // found["chips"], found["precision"]
    sets, models = found["sets"], found["models"]
    count, each = len(sets), "" if models == 1 else f" for each of {models} models"
    shown = [f"{s['name']}, {s['samples']:,} samples, {s['gradients']} gradients" for s in sets]
    return (
        f"A run featurizes {count} set{'s' * (count > 1)}{each}: {'; '.join(shown)}. Memory, "
        "FLOPs and rates are of the set that takes the most per sample; the hours of the others "
        "are in proportion to their forward passes.\n"
        f"Gradients: {found['gradients']} of {found['parameters']:,} of the network's "
        f"{found['network_parameters']:,} parameters, projected to {found['k']:,} by "
        f"{found['projection']}; {cores} device{'s' * (cores > 1)} per chip.\n"
        f"FLOPs: of matrix products, loops counted as often as they run; the projection's are "
        f"{projection}.\n"
        f"run.precision={said['setting']}, model.dtype={found['dtype']}: a product of float32 "
        f"arrays takes {said['gradients']} on the way to a gradient, {said['differences']} in an "
        f"inversion, {said['mathematics']} in the mathematics; one of bfloat16 arrays takes 1.\n"
        f"{ESTIMATED if found.get('estimated') else ''}"
        "Rates and hours are bounds: no vector work, reading of images, writing of features, or "
        f"waiting.\nThe chip's figures: {found['chip']['source']}\n"
    )
