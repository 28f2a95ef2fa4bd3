"""A first look at one accelerator: are the numbers right there, and how many samples a second?

    python -m benchmarks.accelerator_first_look OUT.json [--small] [--only REGEX]

A part that fails says why and the others go on; each is written as soon as it is there. Nothing is
downloaded. All parts take about ten minutes on one GPU of 80 GB or more, most of it compilation,
with XLA_PYTHON_CLIENT_MEM_FRACTION=0.9; ``--small`` tries the script on any machine.
"""

import argparse
import json
import re
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu
from jaxtyping import Float

import ctrak_jax as ct
from ctrak_jax.gradient import path_gradients, project_layers
from ctrak_jax.models import SIZES, DiT
from ctrak_jax.models.denoiser import create, denoiser_of
from ctrak_jax.projection import pallas_gpu, project_leaves, xla
from ctrak_jax.projection.blocks import over_blocks
from ctrak_jax.projection.reference import COLUMN_SALT, ROW_SALT, WORD, key
from ctrak_jax.typing import Array

CASES = [
    ("mask", "xla"),
    ("sjlt", "xla"),
    ("srht", "xla"),
    ("rademacher", "xla"),
    ("gaussian", "xla"),
    ("rademacher", "pallas_gpu"),
]
PRECISIONS = ("bfloat16 operands", "default", "BF16_BF16_F32_X3", "BF16_BF16_F32_X6", "highest")
"""Of float32 products; ``default`` is TF32 on this GPU, ``highest`` is plain float32."""
GUIDANCE = 2.0
WAIT = 300.0
"""Seconds at most that the features' programs may take to compile."""


class Sizes(NamedTuple):
    """What is measured.

    Attributes:
        side: of the matrices of the peak. d, k: of projections and of the features' projections.
        cut: dense projections in plain JAX, and the search for block sizes, take d / cut rows.
        numbers: d, k and samples of the comparison with the CPU.
        network, pixels: of the features. batches: samples side by side.
    """

    side: int
    d: int
    k: int
    cut: int
    numbers: tuple[int, int, int]
    network: str
    pixels: int
    steps: int
    every: int
    batches: tuple[int, ...]


# d and k are those of configs/sd14.yaml.
FULL = Sizes(8192, 43_956_480, 32_768, 8, (200_003, 4096, 13), "paper", 64, 50, 5, (16, 64, 256))
SMALL = Sizes(512, 30_000, 2048, 4, (5000, 256, 5), "tiny", 16, 10, 2, (2, 4))


class Look:
    """Runs the parts and writes what they find."""

    def __init__(self, out: Path, only: str) -> None:
        self.out, self.only = out, re.compile(only)
        device = jax.devices()[0]
        self.found: dict[str, Any] = {
            "device": device.device_kind,
            "backend": jax.default_backend(),
            "jax": jax.__version__,
            "compiler": str(getattr(device.client, "platform_version", ""))[:200],
            "parts": {},
        }

    def part(self, name: str, fn: Callable[[], dict[str, Any]]) -> None:
        """Run one part, unless it was not asked for."""
        if not self.only.search(name):
            return
        start = time.perf_counter()
        try:
            result = fn()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            result = {"failed": reason[:1500], "trace": traceback.format_exc()[-1500:]}
        seconds = round(time.perf_counter() - start, 1)
        self.found["parts"][name] = {"part took s": seconds, **result}
        shown = {key: value for key, value in result.items() if key != "trace"}
        print(name, f"[{seconds} s]", json.dumps(shown)[:700], flush=True)
        self.out.write_text(json.dumps(self.found, indent=1) + "\n")


def timed(fn: Callable[..., Any], *args: Any, repeats: int = 5) -> dict[str, float]:
    """Median and extremes of a call's seconds, after one that is not counted."""
    jax.block_until_ready(fn(*args))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(fn(*args))
        seconds.append(time.perf_counter() - start)
    return {"seconds": float(np.median(seconds)), "min": min(seconds), "max": max(seconds)}


def apart(ours: Any, truth: Any) -> dict[str, float]:
    """How far rows are from the true ones, the worst of them."""
    a, b = (np.asarray(x, np.float64) for x in (ours, truth))
    norm = np.linalg.norm(b, axis=1)
    cosine = np.einsum("ij,ij->i", a, b) / np.linalg.norm(a, axis=1) / norm
    return {
        "relative error": float((np.linalg.norm(a - b, axis=1) / norm).max()),
        "1 - cosine": float((1.0 - cosine).max()),
    }


# The machine


def copy_speed(sizes: Sizes) -> dict[str, Any]:
    """Bytes read and written."""
    x = jnp.ones((sizes.side, sizes.side, 8), jnp.float32)
    time_ = timed(jax.jit(lambda x: x + 1.0), x)
    return {"GB/s": 2 * x.nbytes / time_["seconds"] / 1e9, **time_}


def product(precision: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """A product of float32 matrices at a precision."""
    if precision == "bfloat16 operands":
        low = jnp.bfloat16
        return lambda x, y: lax.dot(
            x.astype(low), y.astype(low), preferred_element_type=jnp.float32
        )
    return lambda x, y: jnp.matmul(x, y, precision=precision)


def matmul(sizes: Sizes, precision: str) -> dict[str, Any]:
    """A square product, and its first rows against float64."""
    n = sizes.side
    x, y = jax.random.normal(jax.random.key(0), (2, n, n))
    fn = jax.jit(product(precision))
    rows = x[:64]
    truth = np.asarray(rows, np.float64) @ np.asarray(y, np.float64)
    time_ = timed(fn, x, y)
    found = {"TFLOP/s": 2 * n**3 / time_["seconds"] / 1e12, **time_}
    return found | apart(np.asarray(fn(x, y))[:64], truth)


# Projections


@lru_cache(maxsize=1)
def gradients(samples: int, d: int) -> jax.Array:
    """Random numbers, sample by sample: together they would take several times their memory."""
    keys = jax.random.split(jax.random.key(1), samples)
    return jax.jit(lambda keys: lax.map(lambda key: jax.random.normal(key, (d,)), keys))(keys)


def numbers(sizes: Sizes, kind: str, implementation: str, dtype: Any) -> dict[str, Any]:
    """A projection against plain JAX on the CPU."""
    d, k, samples = sizes.numbers
    g = gradients(samples, d).astype(dtype)
    asked = ct.Projection(k, kind=kind, implementation=implementation)
    fn = jax.jit(lambda g: ct.project(g, asked, first_row=7))
    once, again = np.asarray(fn(g)), np.asarray(fn(g))
    cpu = jax.devices("cpu")[0]
    with jax.default_device(cpu):
        plain = asked._replace(implementation="xla")
        truth = jax.jit(lambda g: ct.project(g, plain, first_row=7))(jax.device_put(g, cpu))
    found = {"d": d, "k": k, "samples": samples, "same bits twice": bool((once == again).all())}
    return found | apart(once, truth)


def error_by_rows(d: int, stretches: int, dtype: Any) -> dict[str, Any]:
    """The kernel against plain JAX on the same GPU, for few columns."""
    g = gradients(16, d).astype(dtype)
    before = pallas_gpu.STRETCHES
    try:
        pallas_gpu.STRETCHES = stretches
        kernel = jax.jit(lambda g: ct.project(g, ct.Projection(64, implementation="pallas_gpu")))(g)
    finally:
        pallas_gpu.STRETCHES = before
    plain = jax.jit(lambda g: ct.project(g, ct.Projection(64, implementation="xla")))(g)
    ratio = np.linalg.norm(kernel, axis=1) / np.linalg.norm(plain, axis=1)
    return {
        "rows a stretch": d // stretches,
        **apart(kernel, plain),
        "norm ratio": ratio.mean().item(),
    }


def projection_speed(d: int, samples: int, repeats: int, asked: ct.Projection) -> dict[str, Any]:
    """Samples a second."""
    g = gradients(samples, d)
    time_ = timed(jax.jit(lambda g: ct.project(g, asked)), g, repeats=repeats)
    seconds = time_["seconds"]
    found = {"d": d, "k": asked.k, "samples": samples, "samples/s": samples / seconds, **time_}
    if asked.kind in ("rademacher", "gaussian"):
        found["entries of R a ns"] = d * asked.k / seconds / 1e9
    return found


def block_sizes(sizes: Sizes, samples: int, columns: int, rows: int, stretches: int) -> dict:
    """The same of the Triton kernel with other blocks."""
    before = pallas_gpu.COLUMNS, pallas_gpu.ROWS, pallas_gpu.STRETCHES
    try:
        pallas_gpu.COLUMNS, pallas_gpu.ROWS, pallas_gpu.STRETCHES = columns, rows, stretches
        asked = ct.Projection(sizes.k, implementation="pallas_gpu")
        return projection_speed(sizes.d // sizes.cut, samples, 3, asked)
    finally:
        pallas_gpu.COLUMNS, pallas_gpu.ROWS, pallas_gpu.STRETCHES = before


# Projections that are not in the library: the same matrix made in other ways


def split(g: Float[Array, "sample row"]) -> list[Array]:
    """Three bfloat16 arrays whose sum is g. By ``astype`` there and back alone XLA would take the
    second and third to be zero."""
    parts = []
    for _ in range(3):
        part = lax.reduce_precision(g, 8, 7)
        parts.append(part.astype(jnp.bfloat16))
        g = g - part
    return parts


def half_signs(
    g: Float[Array, "sample row"], k: int, *, tile: int = 8192
) -> Float[Array, "sample proj"]:
    """Plain JAX with signs in bfloat16: one product of the three parts, one above the other."""
    samples = g.shape[0]
    shifts = jnp.arange(WORD, dtype=jnp.uint32)

    def add(total: Array, first: Array, part: Array) -> Array:
        rows = first + jnp.arange(part.shape[1], dtype=jnp.uint32)
        packed = xla.words(0, rows, jnp.arange(k // WORD, dtype=jnp.uint32))
        bit = (packed[:, :, None] >> shifts).astype(jnp.uint16) << 15
        sign = lax.bitcast_convert_type(bit | jnp.uint16(0x3F80), jnp.bfloat16)
        parts = jnp.concatenate(split(part))
        sign = sign.reshape(part.shape[1], k)
        return total + lax.dot(parts, sign, preferred_element_type=jnp.float32)

    total = jnp.zeros((3 * samples, k), jnp.float32)
    total = over_blocks(add, total, g, first_row=0, block=1, count=tile)
    return total.reshape(3, samples, k).sum(0) * np.float32(1.0 / np.sqrt(k))


WORDS = 64
"""Words of R of a row that a program of :func:`bit_by_bit` holds: the rows of its products."""
ROWS = 64
"""Rows of R a step."""


def bit_by_bit(
    g: Float[Array, "sample row"], k: int, *, bits: int, stretches: int = 64, stages: int = 4
) -> Float[Array, "sample proj"]:
    """A Mosaic GPU kernel for Hopper: the words of R stay in registers, and each bit of theirs in
    turn becomes the signs [WORDS, ROWS] of a product with the parts of g, in shared memory.

    A word is hashed for ``bits`` of its columns. The three parts have sums of their own.
    """
    samples, d = g.shape
    n = max(16, pl.cdiv(3 * samples, 8) * 8)
    steps = pl.cdiv(pl.cdiv(d, stretches), ROWS)
    flat = jnp.concatenate(split(g))
    flat = jnp.pad(flat, ((0, n - 3 * samples), (0, stretches * steps * ROWS - d)))
    accumulators = [mosaic_gpu.ACC((WORDS, n), jnp.float32)] * bits

    def body(g_ref, out_ref, shared, barriers):
        pl.run_scoped(partial(run, g_ref, out_ref, shared, barriers), *accumulators)

    def run(g_ref, out_ref, shared, barriers, *sums):
        block, group, stretch = (lax.axis_index(name) for name in ("block", "group", "stretch"))
        first = stretch * (steps * ROWS)

        def fetch(i):
            slot = lax.rem(i, stages)
            columns = pl.ds(first + i * ROWS, ROWS)
            mosaic_gpu.copy_gmem_to_smem(g_ref.at[:, columns], shared.at[slot], barriers.at[slot])

        for i in range(min(stages - 1, steps)):
            fetch(jnp.int32(i))

        def counted(axis):
            return mosaic_gpu.broadcasted_iota(
                jnp.uint32, (WORDS, ROWS), axis, layout=mosaic_gpu.Layout.WGMMA
            )

        word, row_in_step = counted(0), counted(1)
        word = word + (block * WORDS).astype(jnp.uint32)
        word_hash = xla.mix(word ^ jnp.uint32(key(0, COLUMN_SALT)))

        def step(i, nothing):
            row = row_in_step + (first + i * ROWS).astype(jnp.uint32)
            packed = xla.mix(xla.mix(row ^ jnp.uint32(key(0, ROW_SALT))) ^ word_hash)
            packed = (packed >> (group * bits).astype(jnp.uint32)).astype(jnp.uint16)
            slot = lax.rem(i, stages)
            mosaic_gpu.barrier_wait(barriers.at[slot])
            for bit, total in enumerate(sums):
                sign = (packed << jnp.uint16(15 - bit)) & jnp.uint16(0x8000)
                sign = lax.bitcast_convert_type(sign | jnp.uint16(0x3F80), jnp.bfloat16)
                mosaic_gpu.wgmma(total, sign, shared.at[slot].T)
            mosaic_gpu.wgmma_wait(0)
            later = i + stages - 1
            pl.when(later < steps)(lambda: fetch(later))
            return nothing

        lax.fori_loop(0, steps, step, None)
        for bit, total in enumerate(sums):
            place = out_ref.at[stretch, group * bits + bit, pl.ds(block * WORDS, WORDS), :]
            place[...] = total[...]

    tiled = mosaic_gpu.TilingTransform((8, 64)), mosaic_gpu.SwizzleTransform(128)
    found = mosaic_gpu.kernel(
        body,
        out_type=jax.ShapeDtypeStruct((stretches, WORD, k // WORD, n), jnp.float32),
        grid=(k // WORD // WORDS, WORD // bits, stretches),
        grid_names=("block", "group", "stretch"),
        scratch_types=[
            mosaic_gpu.SMEM((stages, n, ROWS), jnp.bfloat16, transforms=tiled),
            mosaic_gpu.Barrier(num_arrivals=1, num_barriers=stages),
        ],
    )(flat)
    found = found.sum(0).transpose(2, 1, 0).reshape(n, k)[: 3 * samples]
    return found.reshape(3, samples, k).sum(0) * np.float32(1.0 / np.sqrt(k))


TRIED: dict[str, tuple[int, Callable[[Array, int], Array]]] = {
    "bit by bit, 8 bits, batch 8": (8, partial(bit_by_bit, bits=8)),
    "bit by bit, 8 bits, 256 stretches, batch 8": (8, partial(bit_by_bit, bits=8, stretches=256)),
    "signs in bfloat16, batch 8": (8, half_signs),
    "bit by bit, 4 bits, batch 21": (21, partial(bit_by_bit, bits=4)),
    "bit by bit, 4 bits, batch 32": (32, partial(bit_by_bit, bits=4, stages=3)),
    "bit by bit, 2 bits, batch 64": (64, partial(bit_by_bit, bits=2, stages=3)),
    "signs in bfloat16, batch 64": (64, half_signs),
}


def tried(sizes: Sizes, samples: int, fn: Callable[[Array, int], Array]) -> dict[str, Any]:
    """Samples a second of another way, and how far it is from plain JAX on the same GPU."""
    d, k = sizes.d // sizes.cut, sizes.k
    g = gradients(samples, d)
    run = jax.jit(lambda g: fn(g, k))
    once, time_ = run(g), timed(run, g, repeats=3)
    plain = ct.Projection(k, implementation="xla")
    truth = jax.jit(lambda g: ct.project(g, plain))(g)
    found = {"d": d, "k": k, "samples": samples, "samples/s": samples / time_["seconds"]}
    found |= {"entries of R a ns": d * k / time_["seconds"] / 1e9, **time_}
    return found | apart(once, truth)


# Features: a guided inversion and the normalised gradients along it, of random images and weights


class Job(NamedTuple):
    """One program.

    Attributes:
        batch: samples side by side. inversion, gradients: precision of their float32 products;
            ``None`` leaves that piece out (gradients are then taken of noised images).
        kind: the projection; ``none`` keeps the squared norm of each leaf.
        time_chunk: steps of a path whose gradients are taken side by side.
    """

    batch: int
    inversion: str | None = "default"
    gradients: str | None = "default"
    kind: str = "none"
    time_chunk: int = 1

    @property
    def name(self) -> str:
        words = [f"batch {self.batch}"]
        words.append(f"inversion {self.inversion}" if self.inversion else "no inversion")
        words.append(f"gradients {self.gradients}" if self.gradients else "no gradients")
        if self.gradients:
            words += [f"time_chunk {self.time_chunk}", f"projection {self.kind}"]
        return ", ".join(words)


class Program(NamedTuple):
    """A compiled job."""

    fn: Any
    args: tuple
    d: int
    compile_s: float


def compiled(sizes: Sizes, job: Job) -> Program:
    """Build and compile a job; runs in a thread of its own."""
    schedule, grid = ct.schedule.linear(), ct.grid(steps=sizes.steps, every=sizes.every)
    network, shape = DiT(**SIZES[sizes.network]._asdict()), (sizes.pixels, sizes.pixels, 3)
    model = denoiser_of(network, create(network, shape, 4, 0), schedule, "eps")
    selection = ct.select(model.params)
    # The last layers start at zero: without this their inputs' gradients would be zero.
    params = jax.tree.map(
        lambda p: p + 0.02 * jax.random.normal(jax.random.key(p.size), p.shape), selection.params
    )
    keys = jax.random.split(jax.random.key(3), job.batch)
    x0 = jax.vmap(lambda key: jax.random.uniform(key, shape, minval=-1.0))(keys)
    cond = jnp.tile(jnp.array([1.0, 0.0, 1.0, 0.0]), (job.batch, 1))
    minus = jnp.tile(jnp.array([1.0, 0.0, 0.0, 1.0]), (job.batch, 1))
    projection = ct.Projection(sizes.k, kind="srht" if job.kind == "none" else job.kind)

    def eps_fn(chosen, x, t, c):
        return model.eps_fn(selection.merge(chosen, selection.others), x, t, c)

    def layers_fn(chosen, taps, x, t, c):
        return model.layers_fn(selection.merge(chosen, selection.others), taps, x, t, c)

    def one(params, x0, cond, minus, key):
        if job.inversion:
            guidance = ct.Guidance(GUIDANCE, minus)
            with jax.default_matmul_precision(job.inversion):
                path = ct.invert(eps_fn, params, schedule, grid, x0, cond, guidance=guidance)
        else:
            path = ct.forward_path(schedule, x0, grid.recorded, key)
        if not job.gradients:
            return path.x
        finish = {"finish": partial(project_layers, projection=projection)}
        with jax.default_matmul_precision(job.gradients):
            (g,) = path_gradients(
                ct.dps(schedule, x0),
                layers_fn,
                params,
                path,
                cond,
                normalise=[True],
                time_chunk=job.time_chunk,
                **(finish if job.kind == "factored" else {}),
            )
        return g

    def rows(params, x0, cond, minus, keys):
        g = jax.vmap(one, (None, 0, 0, 0, 0))(params, x0, cond, minus, keys)
        if not job.gradients or job.kind == "factored":
            return g
        if job.kind == "none":
            return jax.tree.map(lambda leaf: jnp.square(leaf).reshape(job.batch, -1).sum(1), g)
        return project_leaves(g, projection)

    args = (params, x0, cond, minus, keys)
    start = time.perf_counter()
    fn = jax.jit(rows).lower(*args).compile()
    return Program(fn, args, selection.size, time.perf_counter() - start)


class Compiling:
    """Jobs compiled in threads while something else is looked at."""

    def __init__(self, sizes: Sizes, jobs: Iterable[Job], threads: int) -> None:
        self.pool = ThreadPoolExecutor(threads)
        self.asked = {job: self.pool.submit(compiled, sizes, job) for job in dict.fromkeys(jobs)}

    def wait(self) -> dict[str, Any]:
        """Until all are there, or for WAIT seconds: what is timed afterwards has the machine to
        itself."""
        done, left = wait(self.asked.values(), timeout=WAIT)
        for future in left:
            future.cancel()
        errors = {job.name: f.exception() for job, f in self.asked.items() if f in done}
        failed = {name: repr(error)[:600] for name, error in errors.items() if error}
        return {"compiled": len(done), "not in time": len(left), "failed programs": failed}

    def program(self, job: Job) -> Program:
        return self.asked[job].result(timeout=0)


def feature(programs: Compiling, job: Job, truth: dict[str, Any]) -> dict[str, Any]:
    """Samples a second, memory beyond arguments and results, and how far the features are from
    those in float32 throughout."""
    fn, args, d, compile_s = programs.program(job)
    memory = fn.memory_analysis()
    found = {
        "d": d,
        "compile s": round(compile_s, 1),
        "temporaries GiB": getattr(memory, "temp_size_in_bytes", 0) / 2**30,
    }
    time_ = timed(fn, *args, repeats=3)
    found |= {"samples/s": job.batch / time_["seconds"], **time_}
    if job.kind == "srht":
        rows = np.asarray(fn(*args))
        if job.inversion == job.gradients == "highest":
            truth["rows"] = rows
        if "rows" in truth:
            found |= apart(rows, truth["rows"])
    return found


def profile(programs: Compiling, job: Job) -> dict[str, Any]:
    """Milliseconds a kernel, by the profiler, of one call; the largest of them."""
    fn, args, *_ = programs.program(job)
    jax.block_until_ready(fn(*args))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(fn(*args))
        (file,) = Path(folder).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(file))
        spent: Counter[str] = Counter()
        count: Counter[str] = Counter()
        lines = []
        for plane in data.planes:
            for line in plane.lines:
                lines.append(f"{plane.name} / {line.name}")
                if "/device:GPU" in plane.name and line.name.startswith("Stream"):
                    for event in line.events:
                        name = re.sub(r"_\d+(_\d+)*$", "", event.name)[:120]
                        spent[name] += event.duration_ns / 1e6
                        count[name] += 1
    top = {name: [round(ms, 2), count[name]] for name, ms in spent.most_common(30)}
    return {
        "ms": round(spent.total(), 1),
        "kernels": count.total(),
        "largest, ms and calls": top,
        **({} if spent else {"lines": lines[:40]}),
    }


def feature_parts(sizes: Sizes) -> dict[str, tuple[Job, Callable[[Compiling, Job], dict]]]:
    """Name -> the program of a part and what is done with it."""
    many = sizes.batches[1]
    low, three = "BF16_BF16_F32", "BF16_BF16_F32_X3"
    whole = len(ct.grid(steps=sizes.steps, every=sizes.every).recorded)
    alone = [Job(many, "default", None), Job(many, None, "default")]
    pairs = [
        ("highest", "highest"),
        ("default", "default"),
        (low, low),
        ("default", "highest"),
        (three, three),
    ]
    jobs = [
        *alone,
        *(Job(many, *pair, "srht") for pair in pairs),
        *(Job(batch) for batch in sizes.batches if batch != many),
        alone[1]._replace(time_chunk=whole),
        Job(many, kind="rademacher"),
        Job(many, kind="factored"),
    ]
    truth: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for job in jobs:
        found[f"features: {job.name}"] = job, partial(feature, truth=truth)
    for job in alone:
        found[f"features: profile, {job.name}"] = job, profile
    return found


BLOCKS = {
    8: [(64, 64, 16), (64, 64, 64), (128, 64, 64), (128, 32, 64), (256, 32, 64)],
    64: [(64, 64, 16), (64, 64, 64), (128, 32, 64), (64, 128, 64)],
}
"""Samples -> ``COLUMNS``, ``ROWS`` and ``STRETCHES`` of the kernel that are tried."""


def main() -> None:
    """All parts; the most telling first."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", default="", help="parts whose name this pattern finds")
    parser.add_argument("--threads", type=int, default=8, help="compilations side by side")
    asked = parser.parse_args()
    look, sizes = Look(asked.out, asked.only), SMALL if asked.small else FULL
    part = look.part

    part("machine: copy", lambda: copy_speed(sizes))
    for precision in PRECISIONS:
        part(f"machine: matmul {precision}", partial(matmul, sizes, precision))

    features = {n: made for n, made in feature_parts(sizes).items() if look.only.search(n)}
    programs = Compiling(sizes, (job for job, _ in features.values()), asked.threads)
    for kind, implementation in CASES:
        fn = partial(numbers, sizes, kind, implementation, jnp.float32)
        part(f"projection: numbers, {kind} {implementation}", fn)
    fn = partial(numbers, sizes, "rademacher", "pallas_gpu", jnp.bfloat16)
    part("projection: numbers, rademacher pallas_gpu, bfloat16 gradients", fn)

    for d in (sizes.numbers[0], sizes.d // 32, sizes.d // 8, sizes.d):
        part(f"projection: error, {d} rows", partial(error_by_rows, d, 16, jnp.float32))
    for stretches in (1, 256, 4096):
        fn = partial(error_by_rows, sizes.d // 8, stretches, jnp.float32)
        part(f"projection: error, {sizes.d // 8} rows, stretches {stretches}", fn)
    fn = partial(error_by_rows, sizes.d // 8, 16, jnp.bfloat16)
    part(f"projection: error, {sizes.d // 8} rows, bfloat16 gradients", fn)
    part("features: compiling", programs.wait)
    for name, (job, fn) in features.items():
        part(name, partial(fn, programs, job))
    programs.asked.clear()

    for samples in (8, 64):
        for kind, implementation in CASES:
            dense = kind in ("rademacher", "gaussian") and implementation == "xla"
            d = sizes.d // sizes.cut if dense else sizes.d
            for tile in (1024, 2**20) if kind == "srht" else (1024,):
                wanted = ct.Projection(sizes.k, kind, 0, tile, implementation)
                name = f"projection: speed, {kind} {implementation}, batch {samples}, tile {tile}"
                part(name, partial(projection_speed, d, samples, 2, wanted))
    for samples, several in BLOCKS.items():
        for blocks in several:
            name = f"projection: blocks {blocks}, batch {samples}"
            part(name, partial(block_sizes, sizes, samples, *blocks))
    for name, (samples, fn) in TRIED.items():
        part(f"projection: tried, {name}", partial(tried, sizes, samples, fn))


if __name__ == "__main__":
    main()
