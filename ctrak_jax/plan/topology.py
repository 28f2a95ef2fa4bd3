"""A plan for a topology, from what a process compiles for it.

The step that featurize runs is compiled for the topology (:mod:`ctrak_jax.plan.compiling`); what it
takes is read from the program (:mod:`ctrak_jax.plan.hlo`); the rest is arithmetic
(:mod:`ctrak_jax.plan.bounds`).
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from ctrak_jax import workers
from ctrak_jax.config import Config
from ctrak_jax.errors import UsageError
from ctrak_jax.log import logger
from ctrak_jax.plan.bounds import (
    CHIP_COUNTS,
    KERNEL_PASSES,
    dearest,
    projection_flops,
    roofline,
    store_bytes,
)
from ctrak_jax.plan.chips import GIB, Chip, chip_of, library
from ctrak_jax.plan.estimate import estimated
from ctrak_jax.precision import described
from ctrak_jax.run.variants import feature_sets


def run(
    config: Config,
    topology: str,
    *,
    samples: int,
    batch: int | None = None,
    only: bool = False,
    estimate: bool = False,
) -> dict[str, Any]:
    """Compile for a topology and work out what a run takes that ranks ``samples`` training samples
    there: their main features, and those of every variant, of all its models.

    Args:
        config: the run's.
        topology: such as v5e:2x2.
        samples: training samples that are ranked.
        batch: samples per chip at a time; the config's by default.
        only: one compilation, and no search for the largest batch that fits.
        estimate: nothing is compiled (:mod:`ctrak_jax.plan.estimate`).

    Raises:
        UsageError: an unknown topology, no libtpu, or not one sample fits.
    """
    chip = chip_of(topology)
    if estimate:
        about, *programs = estimated(config, topology, samples, batch, only)
        return report(config, topology, chip, about, programs, samples)
    libtpu = library()
    logger.info("plan %s: compiling for TPUs takes minutes", topology)
    question = {"config": config.model_dump(mode="json"), "topology": topology}
    question |= {"samples": samples, "batch": batch, "only": only}
    about, *programs = _compile(question, libtpu)
    return report(config, topology, chip, about, programs, samples)


def report(
    config: Config,
    topology: str,
    chip: Chip,
    about: Mapping[str, Any],
    programs: list[dict[str, Any]],
    samples: int,
) -> dict[str, Any]:
    """Everything that ``--json`` prints, from what the compiling process found."""
    fitting = [program for program in programs if program["memory"]]
    cores = about["devices"] // about["chips"]
    if not fitting:
        least = programs[-1]["batch"] * cores
        raise UsageError(
            f"{topology}: a batch of {least} per chip does not fit in {chip.hbm / GIB:.0f} GiB; "
            "lower --batch or gradient.time_chunk, or take fewer methods or parameters "
            "(gradient.include)."
        )
    sets, models = feature_sets(config, samples), len(config.run.seeds)
    most = dearest(sets, config).passes(config)
    whole = models * sum(one.samples * one.passes(config) / most for one in sets)
    chosen = [fitting[0], max(fitting, key=lambda p: p["batch"])]
    rows = [_row(config, chip, about, program, whole) for program in chosen]
    if rows[0] == rows[1]:
        rows.pop()
    compiled = [
        {"batch_per_chip": p["batch"] * cores, "seconds": p["compile_s"], "fits": bool(p["memory"])}
        for p in programs
    ]
    return {
        "topology": topology,
        "chip": chip._asdict(),
        **about,
        "k": config.projection.k,
        "precision": described(config.run.precision, "tpu"),
        "dtype": config.model.dtype,
        "jax": jax.__version__,
        "asked_batch_per_chip": programs[0]["batch"] * cores,
        "largest_batch_per_chip": rows[-1]["batch_per_chip"] if about["searched"] else None,
        "compiled": compiled,
        "programs": rows,
        "samples": samples,
        "models": models,
        "sets": [
            {
                "name": one.variant.name or "main",
                "samples": one.samples,
                "gradients": len(one.specs(config)),
            }
            for one in sets
        ],
        "store_bytes": models * sum(store_bytes(config, one) for one in sets),
    }


def _row(
    config: Config, chip: Chip, about: Mapping[str, Any], program: Mapping[str, Any], samples: float
) -> dict[str, Any]:
    """One program, for a chip and a sample: a chip runs it on each of its devices. The hours are
    those of so many ``samples``."""
    cores = about["devices"] // about["chips"]
    batch = program["batch"] * cores
    memory = {name: size * cores for name, size in program["memory"].items()}
    kernel = about["projection"] == "pallas_tpu"
    projected = projection_flops(config.projection, about["parameters"]) * about["gradients"]
    in_kernel = projected * batch if kernel else 0.0  # else it is in the program's own count
    passes, traffic = program["passes"] * cores, program["bytes"] * cores
    passes += KERNEL_PASSES * in_kernel
    seconds, bound = roofline(chip, passes=passes, traffic=traffic, batch=batch)
    rates = {str(count): count / seconds for count in CHIP_COUNTS}
    return {
        "batch_per_chip": batch,
        "memory": memory | {"total": sum(memory.values())},
        "share_of_hbm": sum(memory.values()) / chip.hbm,
        "flops_per_sample": (program["flops"] * cores + in_kernel) / batch,
        "passes_per_sample": passes / batch,
        "projection_flops_per_sample": projected,
        "bytes_per_sample": traffic / batch,
        "collectives": program["collectives"],
        "seconds_per_sample": seconds,
        "bound_by": bound,
        "samples_per_second": rates,
        "hours": samples * seconds / about["chips"] / 3600,
    }


def _compile(question: Mapping[str, Any], libtpu: Path) -> list[dict[str, Any]]:
    """What :mod:`ctrak_jax.plan.compiling` answers to the question, line by line."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "TPU_LIBRARY_PATH": str(libtpu),
        "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # the compiler alone is used: no chip to lock
        "XLA_FLAGS": "",
    }
    lines: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryFile("w+") as noise,
        workers.start("ctrak_jax.plan.compiling", environment, noise) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with process.stdin:
                workers.ask(process, question)
            for answer in process.stdout:
                lines.append(json.loads(answer))
                _log(lines[-1])
            status = process.wait()
        finally:
            process.kill()
        if lines and "error" in lines[-1]:
            raise UsageError(lines[-1]["error"])
        if status or len(lines) < 2:
            noise.seek(0)
            raise RuntimeError(f"the compiling process failed ({status}):\n{noise.read()[-3000:]}")
    return lines


def _log(line: Mapping[str, Any]) -> None:
    if "compile_s" in line:
        memory = line["memory"]
        size = f"{sum(memory.values()) / GIB:.2f} GiB" if memory else "does not fit"
        logger.info(
            "%d samples per device: %s, compiled in %.0f s", line["batch"], size, line["compile_s"]
        )
