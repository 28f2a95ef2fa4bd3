"""Throughput of the hot parts on this machine: lowering, compile and run time apart."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from ctrak_jax import config as cfg
from ctrak_jax import fisher
from ctrak_jax.data import build
from ctrak_jax.log import logger
from ctrak_jax.mesh import local_mesh
from ctrak_jax.methods import METHODS
from ctrak_jax.models import Denoiser, create
from ctrak_jax.projection import KINDS, Projection, project
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.gradients import TrainBatch, selected, train_rows
from ctrak_jax.stages.variant import MAIN

Row = dict[str, Any]


def _time(name: str, fn: Callable[..., Any], args: tuple, samples: int, repeats: int) -> Row:
    """Lower, compile and run ``fn``; medians of the runs after a warm-up."""
    logger.info("bench %s", name)
    start = time.perf_counter()
    lowered = jax.jit(fn).lower(*args)
    lowered_at = time.perf_counter()
    compiled = lowered.compile()
    compiled_at = time.perf_counter()
    jax.block_until_ready(compiled(*args))
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(*args))
        times.append(time.perf_counter() - begin)
    cost, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
    median = statistics.median(times)
    return {
        "name": name,
        "lower_s": lowered_at - start,
        "compile_s": compiled_at - lowered_at,
        "run_s": median,
        "run_min_s": min(times),
        "run_max_s": max(times),
        "samples_per_second": samples / median,
        "gflops": cost.get("flops", 0.0) / 1e9,
        "temporaries_mib": memory.temp_size_in_bytes / 2**20 if memory else None,
    }


def _context(k: int) -> Context:
    config = cfg.Config(projection=cfg.ProjectionConfig(k=k))
    dataset = build(config.data)
    return Context(
        config=config,
        root=Path(),
        seed=0,
        training_set=dataset,
        dataset=dataset,
        mesh=local_mesh(1),
    )


def featurize(batch: int, k: int, repeats: int) -> list[Row]:
    """Features of each distinct training gradient, projection included, tiny model."""
    ctx = _context(k)
    params = create(ctx.network, ctx.dataset.image_shape, ctx.conditions.size, 0)
    chosen = selected(ctx, Denoiser(ctx.eps_fn, params), MAIN)
    rows = np.arange(batch) % len(ctx.dataset.train_index)
    conditions = ctx.dataset.train_conditions
    samples = TrainBatch(
        ctx.dataset.train_images(rows),
        conditions[rows],
        ctx.against(conditions)[rows],
        ctx.dataset.train_index[rows],
    )
    specs = {m.train: name for name, m in reversed(METHODS.items()) if m.train is not None}
    return [
        _time(
            f"{spec.loss}, {spec.path}{', normalised' if spec.normalise else ''}",
            partial(train_rows, ctx, chosen, [spec]),
            (chosen.selection.params, samples),
            batch,
            repeats,
        )
        for spec in specs
    ]


def projection(batch: int, k: int, repeats: int) -> list[Row]:
    """Each kind at d = 334,784."""
    g = np.random.default_rng(0).standard_normal((batch, 334_784)).astype(np.float32)
    return [
        _time(kind, partial(project, projection=Projection(k, kind)), (g,), batch, repeats)
        for kind in KINDS
    ]


def solve(batch: int, k: int, repeats: int) -> list[Row]:
    """Cholesky of the k x k Gram, the dual of 1,500 samples, and their solves for a batch."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((1_500, k)).astype(np.float32)
    queries = rng.standard_normal((batch, k)).astype(np.float32)

    def primal(features, queries):
        return fisher.solve(fisher.factor(fisher.update(fisher.init(k), features)), queries)

    def dual(features, queries):
        return fisher.solve(fisher.factor_dual(features), queries)

    return [
        _time("primal", primal, (features, queries), batch, repeats),
        _time("dual", dual, (features, queries), batch, repeats),
    ]


BENCHES = {"featurize": featurize, "projection": projection, "solve": solve}


def run(what: str, *, batch: int, k: int, repeats: int) -> dict[str, Any]:
    """One benchmark with the machine's description."""
    device = jax.local_devices()[0]
    return {
        "benchmark": what,
        "device": f"{jax.local_device_count()} x {device.device_kind}",
        "jax": jax.__version__,
        "batch": batch,
        "k": k,
        "repeats": repeats,
        "rows": BENCHES[what](batch, k, repeats),
    }


def table(result: dict[str, Any]) -> str:
    """The result as a table."""
    shown = Table(
        title=f"{result['benchmark']}, batch {result['batch']}, k = {result['k']}, "
        f"{result['device']}, jax {result['jax']}",
        title_justify="left",
    )
    shown.add_column("")
    for column in ("samples/s", "run s (min-max)", "compile s", "GFLOP", "temporaries MiB"):
        shown.add_column(column, justify="right")
    for row in result["rows"]:
        shown.add_row(
            row["name"],
            f"{row['samples_per_second']:.1f}",
            f"{row['run_s']:.3f} ({row['run_min_s']:.3f}-{row['run_max_s']:.3f})",
            f"{row['lower_s'] + row['compile_s']:.1f}",
            f"{row['gflops']:.1f}",
            f"{row['temporaries_mib']:.0f}" if row["temporaries_mib"] is not None else "-",
        )
    console = Console(width=110)
    with console.capture() as capture:
        console.print(shown)
    return capture.get()
