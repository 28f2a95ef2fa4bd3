"""The process that measures: one JSON question on stdin, one line of JSON per event on stdout.

Events: ``about`` (the machine), ``todo`` (all measurements), ``begin`` (the next one), ``row`` (a
result). What a measurement prints goes to stderr. It has a process of its own so that its parent
can end it where a compilation or a kernel does not return.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ctrak_jax.bench.accelerator.machine import Rates
from ctrak_jax.bench.accelerator.measuring import LeftOutError, Measurement
from ctrak_jax.bench.accelerator.sizes import BY_NAME, AcceleratorSizes, size_name

PACKAGES = ("ctrak-jax", "jax", "jaxlib", "flax", "diffusers", "torch", "dattri", "traker")
SLOWEST = 20.0
"""Estimates are not believed to be off by more than this."""

Say = Callable[[dict[str, Any]], None]


def main() -> None:
    """Answer the question ``{"parts", "seconds", "rates", "size"}`` on stdin."""
    asked = json.loads(sys.stdin.readline())
    deadline = time.monotonic() + asked["seconds"]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(event: dict[str, Any]) -> None:
        print(json.dumps(event), file=answers, flush=True)

    import jax

    sizes = BY_NAME[asked["size"] or size_name(jax.default_backend())]
    say({"event": "about", **about(sizes)})
    rates = Rates(**asked["rates"]) if asked["rates"] else None
    todo = {part: measurements(part, sizes, rates) for part in asked["parts"]}
    items = [{"part": m.part, "name": m.name} for found in todo.values() for m in found]
    say({"event": "todo", "items": items})
    for found in todo.values():
        carry_out(found, deadline, say)


def about(sizes: AcceleratorSizes) -> dict[str, Any]:
    """The device and the versions."""
    import jax

    device = jax.local_devices()[0]
    found: dict[str, Any] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    found["python"] = sys.version.split()[0]
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "devices": jax.local_device_count(),
        "cores": len(os.sched_getaffinity(0)),
        "compiler": str(getattr(device.client, "platform_version", "")).partition("\n")[0][:200],
        "versions": found,
        "sizes": sizes._asdict(),
    }


def measurements(part: str, sizes: AcceleratorSizes, rates: Rates | None) -> list[Measurement]:
    """Those of a part, those of ``plan`` with the features'."""
    # Imported where they are used: a part whose libraries are missing leaves the others alone.
    try:
        if part == "machine":
            from ctrak_jax.bench.accelerator import machine

            return machine.measurements(sizes)
        if part == "numerics":
            from ctrak_jax.bench.accelerator import numerics

            return numerics.measurements(sizes)
        if part == "projection":
            from ctrak_jax.bench.accelerator import projections

            return projections.measurements(sizes, rates)
        if part in ("features", "plan"):
            from ctrak_jax.bench.accelerator import features

            return [m for m in features.measurements(sizes, rates) if m.part == part]
        if part == "devices":
            from ctrak_jax.bench.accelerator import features

            return features.on_several(sizes)
        from ctrak_jax.bench.accelerator import pytorch

        return pytorch.measurements(sizes)
    except ImportError as error:
        reason = f"not installed: {error}"
    return [Measurement(part, "everything", 0.0, lambda: _left_out(reason))]


def _left_out(reason: str) -> dict[str, Any]:
    raise LeftOutError(reason)


def carry_out(
    todo: Sequence[Measurement],
    deadline: float,
    say: Say,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Measure in order of rank, each only if it is expected to end before the deadline.

    An estimate of seconds is multiplied by how far the earlier estimates were off.
    """
    spent = expected = 0.0
    for one in sorted(todo, key=lambda m: m.rank):
        row: dict[str, Any] = {"event": "row", "part": one.part, "name": one.name}
        off = min(max(1.0, spent / expected), SLOWEST) if expected else 1.0
        needed, left = one.seconds * off, deadline - clock()
        if left < needed or left <= 0:
            reason = f"no time: takes about {needed:.0f} s, {max(left, 0):.0f} s were left"
            say(row | {"left_out": reason})
            continue
        say({"event": "begin", "part": one.part, "name": one.name})
        start, computed = clock(), time.process_time()
        outcome = _outcome(one)
        taken, computed = clock() - start, time.process_time() - computed
        say(row | outcome | {"seconds": round(taken, 2), "cpu_seconds": round(computed, 2)})
        if "figures" in outcome:
            spent, expected = spent + taken, expected + one.seconds


def _outcome(one: Measurement) -> dict[str, Any]:
    try:
        return {"figures": _finite(one.run())}
    except (LeftOutError, NotImplementedError) as error:
        return {"left_out": str(error)}
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        return {"failed": reason[:400]}


def _finite(figures: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    }


if __name__ == "__main__":
    main()
