r"""What featurizing a training set would take on TPUs that are not here: ``ctrak plan``.

The step that featurize runs is compiled for the topology (:mod:`ctrak_jax.plan.compiling`);
what it takes is read from the program (:mod:`ctrak_jax.plan.hlo`). The rest is arithmetic. With
:math:`F` FLOPs of the matrix unit in bfloat16 passes and :math:`M` bytes to and from memory, one
call for :math:`b` samples on a chip of peak :math:`P` and bandwidth :math:`B` takes at least

.. math::  \tau = \max(F / P,\; M / B),                                                    \tag{9}

so :math:`n` chips make at most :math:`n b / \tau` samples a second: samples never meet.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from rich.console import Console
from rich.table import Table

from ctrak_jax.config import Config
from ctrak_jax.errors import UsageError
from ctrak_jax.log import logger
from ctrak_jax.stages.gradients import needs_errors, train_specs

GB, GIB, TERA = 1e9, 2**30, 1e12
CHIP_COUNTS = (1, 8, 64, 256)
KERNEL_PASSES = 3
"""bfloat16 passes of the projection kernel: float32 gradients in three parts, signs are exact."""
EXAMPLES = "v4:2x2x1, v5e:16x16, v5p:4x4x4, v6e:2x2, tpu7x:2x2x1"
LARGEST = 2**16


class Chip(NamedTuple):
    """A chip: bytes of memory, their bandwidth in bytes a second, bfloat16 FLOPs a second, and the
    page that says so."""

    hbm: int
    bandwidth: float
    flops: float
    source: str


_PAGES = "https://docs.cloud.google.com/tpu/docs/"
CHIPS = {
    "v4": Chip(32 * GIB, 1200 * GB, 275 * TERA, _PAGES + "v4"),
    "v5e": Chip(16 * GIB, 819 * GB, 197 * TERA, _PAGES + "v5e"),
    "v5p": Chip(95 * GIB, 2765 * GB, 459 * TERA, _PAGES + "v5p"),
    "v6e": Chip(32 * GIB, 1638 * GB, 918 * TERA, _PAGES + "v6e"),
    "tpu7x": Chip(192 * GIB, 7380 * GB, 2307 * TERA, _PAGES + "tpu7x"),
}
"""Generation, as topologies name it -> chip. The pages write GB for memory; it is GiB."""


def chip_of(topology: str) -> Chip:
    """The chip of a topology.

    Raises:
        UsageError: not the name of a topology, or of a generation that is not in the table.
    """
    if not re.fullmatch(rf"({'|'.join(CHIPS)}):\d+(x\d+){{1,2}}", topology):
        raise UsageError(
            f"--topology {topology!r} is not known; give a generation ({', '.join(CHIPS)}) and the "
            f"chips along each axis, e.g. {EXAMPLES}."
        )
    return CHIPS[topology.partition(":")[0]]


def library() -> Path:
    """libtpu, the TPU's compiler: named by TPU_LIBRARY_PATH, in ``.venv/tpu``, or installed.

    Raises:
        UsageError: it is in none of these places.
    """
    named = os.environ.get("TPU_LIBRARY_PATH")
    spec = importlib.util.find_spec("libtpu")
    places = [Path(named)] if named else [Path(sys.prefix) / "tpu" / "libtpu" / "libtpu.so"]
    if not named and spec is not None and spec.origin is not None:
        places.append(Path(spec.origin).with_name("libtpu.so"))
    for place in places:
        if place.is_file():
            return place
    raise UsageError(
        f"libtpu is not at {places[0]} and not installed; "
        "pip install 'ctrak-jax[tpu-plan]', or run make tpu in a checkout."
    )


class Taken(NamedTuple):
    """Bytes a program takes, and those among them that do not grow with its batch."""

    total: int
    fixed: int


def largest_batch(
    measure: Callable[[int], Taken | None], first: int, capacity: int, most: int = LARGEST
) -> int:
    """The largest first * 2^n that fits, in few measurements: a line through the last two tells
    what to try next (at first, through what does not grow), and what it says is tried.

    Args:
        measure: what a batch takes, or None where it does not fit. first: where to begin; halved
            until it fits. capacity: bytes there are. most: no batch beyond this is tried.

    Returns:
        0 where a single sample does not fit.
    """
    taken = measure(first)
    if taken is None:
        return 0 if first == 1 else largest_batch(measure, first // 2, capacity, first // 2)
    batch, ceiling = first, most
    start = (0, taken.fixed)
    while True:
        slope = max((taken.total - start[1]) / (batch - start[0]), 1.0)
        guess = batch
        while guess * 2 <= ceiling and taken.total + slope * (guess * 2 - batch) <= capacity:
            guess *= 2
        if start[0] == 0 and guess == batch < ceiling:
            guess *= 2  # one measurement is no line
        if guess == batch:
            return batch
        more = measure(guess)
        if more is None:
            ceiling = guess // 2
        else:
            start, batch, taken = (batch, taken.total), guess, more


def roofline(chip: Chip, *, passes: float, traffic: float, batch: int) -> tuple[float, str]:
    """Seconds a sample of equation (9) for one chip's call, and which of the two it is.

    Args:
        passes: bfloat16 FLOPs of the call. traffic: its bytes. batch: its samples.
    """
    compute, memory = passes / chip.flops, traffic / chip.bandwidth
    return max(compute, memory) / batch, "matrix unit" if compute >= memory else "memory"


def store_bytes(config: Config, samples: int) -> int:
    """Bytes of the feature stores' arrays: rows in whole chunks, a scale for each kept as int8, an
    int64 index, 4 bytes of checksum a chunk."""
    chunk = config.store.chunk
    specs = train_specs(config.methods)
    times = config.timesteps
    chunks = -(-samples // chunk)

    def array(width: int, size: int = 4) -> int:
        return chunks * (size * width * chunk + 4)

    size = {"float32": 4, "bfloat16": 2, "int8": 1}[config.store.dtype]
    scales = array(1) if config.store.dtype == "int8" else 0
    features = len(specs) * (array(config.projection.k, size) + scales + 8 * samples + 4)
    return features + len(needs_errors(specs)) * array(times)


def run(
    config: Config, topology: str, *, samples: int, batch: int | None = None, only: bool = False
) -> dict[str, Any]:
    """Compile for a topology and work out what ``samples`` training samples take there.

    Args:
        batch: samples a chip at a time; the config's by default. only: do not search for the
            largest batch that fits: one compilation.

    Raises:
        UsageError: an unknown topology, no libtpu, or not one sample fits.
    """
    chip, libtpu = chip_of(topology), library()
    logger.info("plan %s: compiling for TPUs that are not here takes minutes", topology)
    question = {"config": config.model_dump(mode="json"), "topology": topology}
    question |= {"batch": batch, "only": only}
    about, programs = _compile(question, libtpu)
    return report(config, topology, chip, about, programs, samples)


def report(
    config: Config,
    topology: str,
    chip: Chip,
    about: Mapping[str, Any],
    programs: list[dict[str, Any]],
    samples: int,
) -> dict[str, Any]:
    """Everything that ``--json`` prints, from what the compiling process found.

    Raises:
        UsageError: no program fits.
    """
    fitting = [program for program in programs if program["memory"]]
    cores = about["devices"] // about["chips"]
    if not fitting:
        least = programs[-1]["batch"] * cores
        raise UsageError(
            f"{topology}: a batch of {least} a chip does not fit in {chip.hbm / GIB:.0f} GiB; "
            "lower --batch or gradient.time_chunk, or take fewer methods or parameters "
            "(gradient.include)."
        )
    chosen = [fitting[0], max(fitting, key=lambda p: p["batch"])]
    rows = [_row(config, chip, about, program, samples) for program in chosen]
    if rows[0] == rows[1]:
        rows.pop()
    return {
        "topology": topology,
        "chip": chip._asdict(),
        **about,
        "k": config.projection.k,
        "jax": jax.__version__,
        "asked_batch_per_chip": programs[0]["batch"] * cores,
        "largest_batch_per_chip": rows[-1]["batch_per_chip"] if about["searched"] else None,
        "compiled": [
            {
                "batch_per_chip": p["batch"] * cores,
                "seconds": p["compile_s"],
                "fits": bool(p["memory"]),
            }
            for p in programs
        ],
        "programs": rows,
        "samples": samples,
        "store_bytes": store_bytes(config, samples),
    }


def _row(
    config: Config, chip: Chip, about: Mapping[str, Any], program: Mapping[str, Any], samples: int
) -> dict[str, Any]:
    """One program, for a chip and a sample: a chip runs it on each of its devices."""
    cores = about["devices"] // about["chips"]
    batch = program["batch"] * cores
    memory = {name: size * cores for name, size in program["memory"].items()}
    kernel = about["projection"] == "pallas_tpu"
    projected = 2.0 * about["parameters"] * config.projection.k * about["gradients"]
    in_kernel = projected * batch if kernel else 0.0  # else it is in the program's own count
    seconds, bound = roofline(
        chip,
        passes=program["passes"] * cores + KERNEL_PASSES * in_kernel,
        traffic=program["bytes"] * cores,
        batch=batch,
    )
    rates = {str(count): count / seconds for count in CHIP_COUNTS}
    return {
        "batch_per_chip": batch,
        "memory": memory | {"total": sum(memory.values())},
        "share_of_hbm": sum(memory.values()) / chip.hbm,
        "flops_per_sample": (program["flops"] * cores + in_kernel) / batch,
        "projection_flops_per_sample": projected,
        "bytes_per_sample": program["bytes"] * cores / batch,
        "collectives": program["collectives"],
        "seconds_per_sample": seconds,
        "bound_by": bound,
        "samples_per_second": rates,
        "hours": samples * seconds / about["chips"] / 3600,
    }


def _compile(
    question: Mapping[str, Any], libtpu: Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Put the question to :mod:`ctrak_jax.plan.compiling`: the first line and the others."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "TPU_LIBRARY_PATH": str(libtpu),
        "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # the compiler alone is used: no chip to lock
        "XLA_FLAGS": "",
    }
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryFile("w+") as noise:
        process = subprocess.Popen(
            [sys.executable, "-m", "ctrak_jax.plan.compiling"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=noise,
            text=True,
            env=environment,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with process.stdin, process.stdout:
                process.stdin.write(json.dumps(question))
                process.stdin.close()
                for text_line in process.stdout:
                    lines.append(json.loads(text_line))
                    _log(lines[-1])
            status = process.wait()
        finally:
            process.kill()
            process.wait()
        if lines and "error" in lines[-1]:
            raise UsageError(lines[-1]["error"])
        if status or len(lines) < 2:
            noise.seek(0)
            raise RuntimeError(f"the compiling process failed ({status}):\n{noise.read()[-3000:]}")
    return lines[0], lines[1:]


def _log(line: Mapping[str, Any]) -> None:
    if "compile_s" in line:
        memory = line["memory"]
        size = f"{sum(memory.values()) / GIB:.2f} GiB" if memory else "does not fit"
        logger.info(
            "%d samples a device: %s, compiled in %.0f s", line["batch"], size, line["compile_s"]
        )


def text(found: Mapping[str, Any]) -> str:
    """The report as a table, and what its numbers are."""
    chip, rows = found["chip"], found["programs"]
    table = Table(
        title=f"featurize on {found['topology']}: {found['chips']} chips of "
        f"{chip['hbm'] / GIB:.0f} GiB, {chip['bandwidth'] / GB:.0f} GB/s, "
        f"{chip['flops'] / TERA:.0f} bfloat16 TFLOP/s; jax {found['jax']}",
        title_justify="left",
    )
    table.add_column("")
    for row in rows:
        batch = row["batch_per_chip"]
        marks = {"asked": found["asked_batch_per_chip"], "largest": found["largest_batch_per_chip"]}
        said = ", ".join(mark for mark, size in marks.items() if size == batch)
        table.add_column(f"{batch} a chip\n{said}", justify="right")
    for label, value in _LINES.items():
        table.add_row(label, *(value(row) for row in rows))
    for count in CHIP_COUNTS:
        rates = (f"{row['samples_per_second'][str(count)]:,.0f}" for row in rows)
        table.add_row(f"samples a second at most, {count} chip{'s' * (count > 1)}", *rates)
    hours = (f"{row['hours']:.2f}" for row in rows)
    table.add_row(f"hours at least, {found['samples']:,} samples, {found['chips']} chips", *hours)
    table.add_row("feature stores", *[f"{found['store_bytes'] / GB:,.1f} GB"] * len(rows))
    console = Console(width=110)
    with console.capture() as capture:
        console.print(table)
    return f"{capture.get()}{_notes(found)}"


def _gib(part: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: f"{row['memory'][part] / GIB:.3f} GiB"


def _collectives(row: Mapping[str, Any]) -> str:
    found = row["collectives"].items()
    return ", ".join(f"{c['calls']} {k}, {c['bytes'] / 1e6:.1f} MB" for k, c in found) or "none"


_LINES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "arguments, a chip": _gib("arguments"),
    "outputs": _gib("outputs"),
    "temporaries": _gib("temporaries"),
    "code": _gib("code"),
    "together": lambda row: f"{row['memory']['total'] / GIB:.3f} GiB = {row['share_of_hbm']:.0%}",
    "GFLOP a sample": lambda row: f"{row['flops_per_sample'] / GB:,.1f}",
    "  projection's": lambda row: f"{row['projection_flops_per_sample'] / GB:,.1f}",
    "MB of memory traffic a sample": lambda row: f"{row['bytes_per_sample'] / 1e6:,.1f}",
    "collectives a call": _collectives,
    "roofline time a sample": lambda row: f"{row['seconds_per_sample'] * 1e3:.3f} ms",
    "bound by": lambda row: row["bound_by"],
}


def _notes(found: Mapping[str, Any]) -> str:
    kernel = found["projection"] == "pallas_tpu"
    projection = (
        f"the projection's are added by formula, 2 d k a gradient, {KERNEL_PASSES} passes"
        if kernel
        else "the projection's are in the program's own"
    )
    cores = found["devices"] // found["chips"]
    return (
        f"Gradients: {found['gradients']} of {found['parameters']:,} parameters, projected to "
        f"{found['k']:,} by {found['projection']}; {cores} device{'s' * (cores > 1)} a chip.\n"
        f"FLOPs: of matrix products, loops counted as often as they run; {projection}.\n"
        "A float32 product is one bfloat16 pass by default, 3 or 6 at high or highest precision.\n"
        "Rates and hours are bounds: no vector work, reading of images, writing of features, or "
        f"waiting.\nThe chip's figures: {found['chip']['source']}\n"
    )
