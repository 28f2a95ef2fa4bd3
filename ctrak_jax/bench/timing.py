"""Calls timed in turns, so that all of them meet the same machine: medians with their extremes."""

import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ctrak_jax.log import logger
from ctrak_jax.plan import hlo
from ctrak_jax.precision import EXACT

PEAK_SIDE = 2048
"""The matmul peak is that of square float32 matrices of this side."""
PEAK_CALLS = 5
LOWER = "/jax/core/compile/jaxpr_to_mlir_module_duration"
COMPILE = "/jax/core/compile/backend_compile_duration"
MIB = 2**20


class Row(NamedTuple):
    """What was measured of one call; None where it is not known.

    Attributes:
        lower_s: seconds before the first run; of one program, tracing counts as lowering.
        run_s: median of the timed calls.
        samples_per_second: of the median.
        gflops: of a call's matrix products, loops counted as often as they run.
        share_of_peak: of the machine's float32 matmul peak, measured in the same run.
        peak_mib: the compiled program's temporaries, arguments and results.
        peer: another row, timed in turns with this one.
        speedup: the peer's time over this row's, median of the rounds.
        truth: the row that has the same result.
        difference: from it, the largest of all vectors (last axis) relative to their norms.
    """

    name: str
    lower_s: float
    compile_s: float
    run_s: float
    run_min_s: float
    run_max_s: float
    samples_per_second: float
    gflops: float | None
    gflops_per_second: float | None
    share_of_peak: float | None
    temporaries_mib: float | None
    peak_mib: float | None
    peer: str | None
    speedup: float | None
    truth: str | None
    difference: float | None


class Program(NamedTuple):
    """A compiled program and what is known of it; see :class:`Row`."""

    compiled: Callable[..., Any]
    lower_s: float
    compile_s: float
    gflops: float | None
    temporaries_mib: float | None = None
    peak_mib: float | None = None


class Call(NamedTuple):
    """One thing to time; see :class:`Row`.

    Attributes:
        run: does it; what it returns is waited for.
        samples: how many it handles.
        program: what ``run`` calls, if it is a single program.
        gflops: of its matrix products, where it is not.
        before: done before each run, untimed.
    """

    name: str
    run: Callable[[], Any]
    samples: int
    program: Program | None = None
    gflops: float | None = None
    before: Callable[[], None] = lambda: None
    peer: str | None = None
    truth: str | None = None


def compiled(fn: Callable[..., Any], args: tuple, devices: int = 1) -> Program:
    """Lower and compile a function of arrays that runs on a number of devices."""
    start = time.perf_counter()
    lowered = jax.jit(fn).lower(*args)
    lowered_at = time.perf_counter()
    program = lowered.compile()
    done = time.perf_counter()
    gflops, memory = _matrix_gflops(program.as_text() or ""), program.memory_analysis()
    temporaries = peak = None
    if memory is not None:
        temporaries = memory.temp_size_in_bytes * devices / MIB
        both = memory.argument_size_in_bytes + memory.output_size_in_bytes
        peak = temporaries + (both - memory.alias_size_in_bytes) * devices / MIB
    gflops = None if gflops is None else gflops * devices
    return Program(program, lowered_at - start, done - lowered_at, gflops, temporaries, peak)


def _matrix_gflops(text: str) -> float | None:
    """GFLOPs of a program's matrix products, from its text; None if it calls a library or a kernel,
    whose work the text does not show, or if the rounds of a loop cannot be read."""
    targets = set(re.findall(r'custom_call_target="([^"]*)"', text))
    if targets:
        logger.debug("FLOPs not counted: the program calls %s", sorted(targets))
        return None
    try:
        return hlo.cost(text).flops / 1e9
    except ValueError as error:
        logger.debug("FLOPs not counted: %s", error)
        return None


def of_program(name: str, fn: Callable[..., Any], args: tuple, samples: int, **other: Any) -> Call:
    """A call of one function of arrays, compiled here."""
    logger.info("bench %s: compiling", name)
    program, args = compiled(fn, args), jax.device_put(args)
    return Call(name, lambda: program.compiled(*args), samples, program, **other)


def in_turns(calls: Sequence[Call], repeats: int) -> list[Row]:
    """Time calls one after the other, ``repeats`` rounds after a warm-up of each."""
    results: dict[str, Any] = {}
    programs: dict[str, Program] = {}
    for call in calls:
        logger.info("bench %s", call.name)
        call.before()
        with _compilations() as spent:
            results[call.name] = jax.block_until_ready(call.run())
        warmed = Program(call.run, spent[LOWER], spent[COMPILE], call.gflops)
        programs[call.name] = call.program or warmed
    seconds: dict[str, list[float]] = {call.name: [] for call in calls}
    for _ in range(repeats):
        for call in calls:
            call.before()
            begin = time.perf_counter()
            jax.block_until_ready(call.run())
            seconds[call.name].append(time.perf_counter() - begin)

    def row(call: Call) -> Row:
        own, program = seconds[call.name], programs[call.name]
        median, gflops = statistics.median(own), program.gflops
        speedup = difference = None
        if call.peer:
            rounds = zip(seconds[call.peer], own, strict=True)
            speedup = statistics.median(peer / mine for peer, mine in rounds)
        if call.truth:
            difference = apart(results[call.name], results[call.truth])
        return Row(
            name=call.name,
            lower_s=program.lower_s,
            compile_s=program.compile_s,
            run_s=median,
            run_min_s=min(own),
            run_max_s=max(own),
            samples_per_second=call.samples / median,
            gflops=gflops,
            gflops_per_second=None if gflops is None else gflops / median,
            share_of_peak=None,
            temporaries_mib=program.temporaries_mib,
            peak_mib=program.peak_mib,
            peer=call.peer,
            speedup=speedup,
            truth=call.truth,
            difference=difference,
        )

    return [row(call) for call in calls]


@contextmanager
def _compilations() -> Iterator[dict[str, float]]:
    """Seconds of lowering and of compiling while the context is open."""
    spent = {LOWER: 0.0, COMPILE: 0.0}

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event in spent:
            spent[event] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield spent
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def apart(found: Any, truth: Any) -> float:
    """The largest difference of two arrays' vectors (last axis), relative to the second's norms."""
    a, b = (np.asarray(x, np.float64) for x in (found, truth))
    return float(np.max(np.linalg.norm(a - b, axis=-1) / np.linalg.norm(b, axis=-1)))


def matmul_peak(device: Any) -> float:
    """GFLOPs per second of the fastest of a few large float32 matrix products on a device."""
    values = np.random.default_rng(0).standard_normal((PEAK_SIDE, PEAK_SIDE)).astype(np.float32)
    matrix = jax.device_put(values, device)
    product = jax.jit(lambda a: jnp.matmul(a, a, precision=EXACT))
    (row,) = in_turns([Call("matmul peak", lambda: product(matrix), 1)], PEAK_CALLS)
    return 2e-9 * PEAK_SIDE**3 / row.run_min_s


def with_share(row: Row, peak: float) -> Row:
    """The row with its share of the machine's matmul peak, GFLOPs per second."""
    rate = row.gflops_per_second
    return row if rate is None else row._replace(share_of_peak=rate / peak)
