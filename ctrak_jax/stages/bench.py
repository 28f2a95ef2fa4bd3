"""Throughput of the hot parts on this machine: lowering, compile and run time apart."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from ctrak_jax import config as cfg
from ctrak_jax import fisher
from ctrak_jax.data import build
from ctrak_jax.log import logger
from ctrak_jax.mesh import ShardedRows, local_mesh
from ctrak_jax.methods import METHODS
from ctrak_jax.models import create
from ctrak_jax.projection import KINDS, Projection, project
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.gradients import TrainBatch, selected, train_rows
from ctrak_jax.stages.score import Features, ranked, rows_a_block
from ctrak_jax.stages.variant import MAIN
from ctrak_jax.store import FeatureStore

Row = dict[str, Any]


class Sizes(NamedTuple):
    """What is timed: samples or queries a call, length and number of features, timed calls."""

    batch: int
    k: int
    rows: int
    repeats: int


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


def _clock(
    name: str,
    fn: Callable[[], Any],
    samples: int,
    repeats: int,
    gflops: float = 0.0,
    before: Callable[[], None] = lambda: None,
) -> Row:
    """Time what is no single program; what the first call takes longer is its compilation."""
    logger.info("bench %s", name)
    times = []
    for _ in range(repeats + 1):
        before()
        begin = time.perf_counter()
        jax.block_until_ready(fn())
        times.append(time.perf_counter() - begin)
    first, times = times[0], times[1:]
    median = statistics.median(times)
    return {
        "name": name,
        "lower_s": 0.0,
        "compile_s": max(first - median, 0.0),
        "run_s": median,
        "run_min_s": min(times),
        "run_max_s": max(times),
        "samples_per_second": samples / median,
        "gflops": gflops,
        "temporaries_mib": None,
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


def featurize(sizes: Sizes) -> list[Row]:
    """Features of each distinct training gradient, projection included, tiny model."""
    batch, k, _, repeats = sizes
    ctx = _context(k)
    params = create(ctx.network, ctx.dataset.image_shape, ctx.conditions.size, 0)
    chosen = selected(ctx, ctx.denoiser(params), MAIN)
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
            partial(train_rows, ctx, chosen, [spec], False),
            (chosen.weights, samples),
            batch,
            repeats,
        )
        for spec in specs
    ]


def projection(sizes: Sizes) -> list[Row]:
    """Each kind at d = 334,784."""
    batch, k, _, repeats = sizes
    g = np.random.default_rng(0).standard_normal((batch, 334_784)).astype(np.float32)
    return [
        _time(kind, partial(project, projection=Projection(k, kind)), (g,), batch, repeats)
        for kind in KINDS
    ]


def solve(sizes: Sizes) -> list[Row]:
    """Every solver on 1,500 samples: all damping values, a batch of queries, and their scores."""
    batch, k, _, repeats = sizes
    rng = np.random.default_rng(0)
    rows = fisher.Matrix(rng.standard_normal((1_500, k)).astype(np.float32))
    queries = rng.standard_normal((batch, k)).astype(np.float32)
    multiples = cfg.Config().score.damping

    def all_scores(solver: fisher.Solver) -> list[Any]:
        solution = fisher.solve(rows, queries, multiples, solver=solver)
        return [block.features for block in solution.scores(rows)]

    return [
        _clock(solver, partial(all_scores, solver), batch, repeats) for solver in fisher.SOLVERS
    ]


def scoring(sizes: Sizes) -> list[Row]:
    """Rows a second of scoring for a batch of queries: from memory, and from disk beside plain
    reads of the same files, with the page cache emptied of them before each call and with it full.
    """
    batch, k, n, repeats = sizes
    rng = np.random.default_rng(0)
    z = rng.standard_normal((batch, k)).astype(np.float32)
    gflops, mesh = 2e-9 * n * k * batch, local_mesh(1)
    with tempfile.TemporaryDirectory(dir=".", prefix="ctrak-bench-") as folder:
        store = _random_store(Path(folder) / "store", n, k, rng)
        files = [f for f in sorted(Path(store.place).glob("features/c/**/*")) if f.is_file()]
        size = rows_a_block(k, len(store.chunks[0]))

        def blocks(part: range) -> Iterator[fisher.Block]:
            return (fisher.Block(*block) for block in store.blocks("features", size, part))

        disk = ShardedRows(mesh, n, k, blocks, block=size, resident=False)
        memory = fisher.Matrix(np.asarray(fisher.dense(disk)))
        solution = fisher.Vectors("cg", jnp.asarray(z)[None], 0, ())

        def top(rows: fisher.Rows) -> Any:
            return ranked(Features(rows, None, "cg"), solution, min(100, n), keep=False).ranking

        def forget() -> None:
            os.sync()
            for file in files:
                with file.open("rb") as opened:
                    os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

        def raw() -> int:
            return sum(len(file.read_bytes()) for file in files)

        return [
            _clock("raw read, page cache empty", raw, n, repeats, 0.0, forget),
            _clock("from disk, page cache empty", lambda: top(disk), n, repeats, gflops, forget),
            _clock("raw read, page cache full", raw, n, repeats),
            _clock("from disk, page cache full", lambda: top(disk), n, repeats, gflops),
            _clock("from memory", lambda: top(memory), n, repeats, gflops),
            _clock("from memory, numpy matmul", lambda: z @ memory.features.T, n, repeats, gflops),
        ]


def _random_store(path: Path, n: int, k: int, rng: np.random.Generator) -> FeatureStore:
    """A complete store of the default chunk size; its chunks differ by a factor."""
    chunk = cfg.Config().store.chunk
    store = FeatureStore.create(
        path, {"bench": [n, k]}, index=np.arange(n), widths={"features": k}, chunk=chunk
    )
    values = rng.standard_normal((chunk, k)).astype(np.float32)
    for rows in store.missing:
        store.write(rows, {"features": values[: len(rows)] * (1 + rows.start / n)})
    return store


BENCHES = {"featurize": featurize, "projection": projection, "scoring": scoring, "solve": solve}


def run(what: str, sizes: Sizes) -> dict[str, Any]:
    """One benchmark with the machine's description."""
    device = jax.local_devices()[0]
    return {
        "benchmark": what,
        "device": f"{jax.local_device_count()} x {device.device_kind}",
        "jax": jax.__version__,
        "batch": sizes.batch,
        "k": sizes.k,
        "repeats": sizes.repeats,
        "rows": BENCHES[what](sizes),
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
