"""Samples featurized per second, memory, utilisation; the plan beside it; several devices."""

import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np

from ctrak_jax import devices
from ctrak_jax.bench.accelerator import networks
from ctrak_jax.bench.accelerator.counting import matrix_flops
from ctrak_jax.bench.accelerator.machine import Rates
from ctrak_jax.bench.accelerator.measuring import LeftOutError, Measurement, apart, timed
from ctrak_jax.bench.accelerator.networks import Featurizing, RandomNetwork
from ctrak_jax.bench.accelerator.sizes import AcceleratorSizes
from ctrak_jax.projection import Projection

GIB = 2**30
Job = tuple[str, str, str, int]
"""Network, dtype, kind of projection, batch."""


class Built(NamedTuple):
    """A compiled job.

    Attributes:
        flops: of a call, projection left out; None where it is not known.
        planned: bytes of arguments, results and temporaries; None where it is not known.
    """

    program: Any
    args: tuple
    batch: int
    d: int
    lower_s: float
    compile_s: float
    flops: float | None
    planned: int | None


@lru_cache(maxsize=2)
def network(sizes: AcceleratorSizes, name: str, dtype: str) -> RandomNetwork:
    """One that is featurized; two are kept."""
    if name == "dit":
        return networks.dit(sizes.network, sizes.pixels, dtype)
    return networks.unet(sizes.unet, dtype, remat=sizes.unet == "sd14")


@lru_cache(maxsize=1)
def built(sizes: AcceleratorSizes, job: Job) -> Built:
    """Trace, lower and compile a job."""
    name, dtype, kind, batch = job
    made = network(sizes, name, dtype)
    projection = Projection(sizes.k, kind)  # pyright: ignore[reportArgumentType]
    todo = networks.training(made, sizes, batch, projection)
    args = jax.device_put(todo.args)
    start = time.perf_counter()
    traced = jax.jit(todo.fn).trace(*args)
    lowered = traced.lower()
    lowered_at = time.perf_counter()
    program = lowered.compile()
    compile_s = time.perf_counter() - lowered_at
    memory, planned = program.memory_analysis(), None
    if memory is not None:
        planned = memory.argument_size_in_bytes + memory.output_size_in_bytes
        planned += memory.temp_size_in_bytes - memory.alias_size_in_bytes
    # The products of other kinds are the projection's in part.
    flops = matrix_flops(traced.jaxpr) if kind == "srht" else None
    return Built(
        program, args, batch, made.d, lowered_at - start, compile_s, flops, planned
    )  # fmt: skip


@lru_cache(maxsize=4)
def seconds_of(sizes: AcceleratorSizes, job: Job) -> float:
    """A call's, the median."""
    made = built(sizes, job)
    return timed(made.program, *made.args, repeats=sizes.repeats)


def speed(sizes: AcceleratorSizes, rates: Rates | None, job: Job) -> dict[str, Any]:
    """Samples per second with everything: inversion, gradients, projection."""
    seconds, made = seconds_of(sizes, job), built(sizes, job)
    found = {
        "batch": made.batch,
        "d": made.d,
        "k": sizes.k,
        "samples_per_second": made.batch / seconds,
        "lower_s": made.lower_s,
        "compile_s": made.compile_s,
        "run_s": seconds,
        "planned_gib": _gib(made.planned),
        "peak_gib_so_far": _gib(peak()),
    }
    if made.flops is not None:
        found["gflop_per_sample"] = made.flops / made.batch / 1e9
        if rates is not None:
            found["model_flop_utilisation"] = made.flops / seconds / rates.flops
    return found


def peak() -> int | None:
    """Most bytes that this process had in use on its first device; None where it does not say."""
    stats = jax.local_devices()[0].memory_stats()
    return stats.get("peak_bytes_in_use") if stats else None


def _gib(size: int | None) -> float | None:
    return None if size is None else size / GIB


def plan(sizes: AcceleratorSizes, rates: Rates | None, job: Job) -> dict[str, Any]:
    """What ``ctrak plan`` would say of the compiled program, beside what is measured: the roofline
    is that of the machine's measured rates."""
    from ctrak_jax.plan import hlo

    made = built(sizes, job)
    seconds, used = seconds_of(sizes, job), peak()
    found: dict[str, Any] = {"batch": made.batch, "measured_s": seconds}
    found |= {"planned_gib": _gib(made.planned), "measured_gib": _gib(used)}
    found["gflop_traced"] = None if made.flops is None else made.flops / 1e9
    text = made.program.as_text() or ""
    try:
        cost = hlo.cost(text)
    except ValueError as error:
        return found | {"note": f"the program's text does not tell: {error}"}
    found |= {"gflop_in_program": cost.flops / 1e9, "gb_in_program": cost.bytes / 1e9}
    if "custom_call_target" in text:
        found["note"] = "the program calls libraries, whose FLOPs its text does not show"
    if rates is not None:
        flops = max(cost.flops, made.flops or 0.0)
        bounds = {"matrix unit": flops / rates.flops, "memory": cost.bytes / rates.bytes}
        slowest = max(bounds, key=lambda name: bounds[name])
        found |= {"planned_s": bounds[slowest], "bound_by": slowest}
        found["measured_over_planned"] = seconds / bounds[slowest]
    return found


def on_devices(sizes: AcceleratorSizes, count: int) -> dict[str, Any]:
    """The same features by several local devices: the same numbers, and how many per second."""
    there = jax.local_device_count()
    if there < 2:
        raise LeftOutError("one device")
    batch = sizes.batches_dit[-1] * there
    one = _over(sizes, batch, 1)
    found: dict[str, Any] = {"devices": count, "batch": batch}
    mine = _over(sizes, batch, count)
    found["samples_per_second"] = batch / mine.seconds
    found["times_one_device"] = one.seconds / mine.seconds
    return found | apart(mine.features, one.features)


class Spread(NamedTuple):
    """Seconds of a call on some devices, and its features."""

    seconds: float
    features: np.ndarray


@lru_cache(maxsize=2)
def _over(sizes: AcceleratorSizes, batch: int, count: int) -> Spread:
    todo: Featurizing = networks.training(
        network(sizes, "dit", "float32"), sizes, batch, Projection(sizes.k, "srht")
    )
    mesh = devices.local_mesh(count)
    params = devices.put_replicated(todo.args[0], mesh)
    given = devices.put(todo.args[1], mesh, devices.samples_spec(mesh))
    fn: Callable[..., Any] = devices.over_samples(todo.fn, mesh)
    seconds = timed(fn, params, given, repeats=sizes.repeats)
    return Spread(seconds, np.asarray(fn(params, given)))


def _jobs(sizes: AcceleratorSizes) -> list[tuple[Job, int]]:
    """What is timed, with its rank."""
    unet_dtype = "bfloat16" if sizes.unet == "sd14" else "float32"
    first = sizes.batches_dit[0]
    found: list[tuple[Job, int]] = [(("dit", "float32", "srht", first), 0)]
    found += [(("unet", unet_dtype, "srht", sizes.batches_unet[0]), 1)]
    found += [(("dit", "bfloat16", "srht", first), 2)]
    found += [(("dit", "float32", kind, first), 3) for kind in ("rademacher", "factored")]
    found += [
        (("unet", unet_dtype, "srht", b), 4 + i) for i, b in enumerate(sizes.batches_unet[1:])
    ]
    found += [(("dit", "float32", "srht", b), 5 + i) for i, b in enumerate(sizes.batches_dit[1:])]
    if sizes.unet == "sd14":
        found.append((("unet", unet_dtype, "rademacher", sizes.batches_unet[0]), 6))
    return found


def _title(sizes: AcceleratorSizes, job: Job) -> str:
    name, dtype, kind, batch = job
    which = f"{sizes.network} DiT" if name == "dit" else f"{sizes.unet} UNet"
    return f"{which}, {dtype}, {kind}, batch {batch}"


def measurements(sizes: AcceleratorSizes, rates: Rates | None) -> list[Measurement]:
    """Throughput of both networks at several batches, and the plan of the first."""
    found = []
    for job, rank in _jobs(sizes):
        seconds = sizes.costs.dit if job[0] == "dit" else sizes.costs.unet
        run = partial(speed, sizes, rates, job)
        found.append(Measurement("features", _title(sizes, job), seconds, run, rank))
    first = _jobs(sizes)[0][0]
    # It comes first: the process has used no other memory then.
    run = partial(plan, sizes, rates, first)
    return [Measurement("plan", _title(sizes, first), sizes.costs.plan, run, -1), *found]


def on_several(sizes: AcceleratorSizes) -> list[Measurement]:
    """Two devices and so on by doubling, and all of them, each beside one."""
    there = jax.local_device_count()
    counts = sorted({2**i for i in range(1, 10) if 2**i <= there} | {there})
    seconds = sizes.costs.devices if there > 1 else 0
    return [
        Measurement("devices", f"{count} of {there}", seconds, partial(on_devices, sizes, count))
        for count in counts
    ]
