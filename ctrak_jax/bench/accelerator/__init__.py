"""What the accelerator of this machine gives: ``ctrak bench accelerator``.

Are the numbers right, how many samples per second, and do plans keep? In a given time: parts in an
order of value, and what the time does not allow is named. Every group of parts has a process
(:mod:`ctrak_jax.bench.accelerator.worker`), which is ended where it does not end itself. This
process loads no JAX: only one may hold a TPU.
"""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from ctrak_jax import workers
from ctrak_jax.bench.accelerator.show import markdown, write

__all__ = ["PARTS", "markdown", "run", "write"]

PARTS = {
    "machine": "rates of matrix products, copies and integer operations",
    "numerics": "features and projections beside more exact ones",
    "projection": "samples projected per second, beside the roofline",
    "plan": "memory and time of a program beside those measured",
    "features": "samples featurized per second, memory, utilisation",
    "devices": "the same features on several devices",
    "pytorch": "the same work in PyTorch, where it is installed",
}
GROUPS = (
    (("machine",), 0.1),
    (("numerics",), 0.36),
    (("projection",), 0.1),
    (("plan", "features"), 0.28),
    (("devices",), 0.08),
    (("pytorch",), 0.15),
)
"""Parts that share a process, and their share of the time. What one leaves goes to those after
it."""
END = 0.06, 12.0
"""Share of the time, and seconds at most, kept for writing the result."""
GRACE = 0.1
"""A process may take this share of the time after it beyond its own."""
HOST_DEVICES = 2
"""A CPU is split in so many devices for the part that compares numbers of them."""
FLAGS = {
    "devices": f"--xla_force_host_platform_device_count={HOST_DEVICES}",
    "numerics": "--xla_backend_optimization_level=0",
}
"""First part of a group -> what XLA is told for it on a CPU. Compiling takes most of the time of
``numerics``, which measures no speed: without optimisation two thirds of it."""


def run(
    minutes: float, only: Sequence[str] = (), size: str | None = None, quiet: bool = False
) -> dict[str, Any]:
    """Measure for so many minutes at the most.

    Args:
        minutes: from the call to the result.
        only: parts; all by default. The machine's rates are always taken.
        size: a name in :data:`ctrak_jax.bench.accelerator.sizes.BY_NAME`, in place of the one for
            the device.
        quiet: no lines on stderr.
    """
    start = time.monotonic()
    end = start + 60 * minutes - min(60 * minutes * END[0], END[1])
    wanted = {"machine", *(only or PARTS)}
    about: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    groups = [(parts, share) for parts, share in GROUPS if wanted & {*parts}]
    if find_spec("torch") is None and "pytorch" in wanted:
        groups.pop()
    for i, (parts, _) in enumerate(groups):
        chosen = [part for part in parts if part in wanted]
        left = end - time.monotonic()
        mine = share_of(left, [other for _, other in groups[i:]])
        last = min(mine + GRACE * left, left)
        found = _group(chosen, mine, last, _rates(rows), size, about, quiet)
        about |= {key: value for key, value in found.pop(0).items() if key not in about}
        rows += found
    if len(groups) < sum(bool(wanted & {*parts}) for parts, _ in GROUPS):
        rows.append(_missing("pytorch", "PyTorch is not installed"))
    return {
        "benchmark": "accelerator",
        "minutes": minutes,
        "took_s": round(time.monotonic() - start, 1),
        "asked": [part for part in PARTS if part in wanted],
        **about,
        "rates": _rates(rows),
        "rows": rows,
    }


def share_of(left: float, shares: Sequence[float]) -> float:
    """The seconds of the first of some groups, of those left to all of them."""
    return left * shares[0] / sum(shares)


def _rates(rows: list[dict[str, Any]]) -> dict[str, float] | None:
    """The machine's, as :class:`ctrak_jax.bench.accelerator.machine.Rates` has them; None where one
    is missing."""
    named = {row["name"]: row.get("figures") or {} for row in rows if row["part"] == "machine"}
    products = [f["tflops_per_second"] for f in named.values() if "tflops_per_second" in f]
    moved = named.get("copy", {}).get("gb_per_second")
    integers = named.get("integers", {}).get("gops_per_second")
    if not products or moved is None or integers is None:
        return None
    return {"flops": 1e12 * max(products), "bytes": 1e9 * moved, "integers": 1e9 * integers}


def _group(
    parts: Sequence[str],
    seconds: float,
    last: float,
    rates: dict[str, float] | None,
    size: str | None,
    about: dict[str, Any],
    quiet: bool,
) -> list[dict[str, Any]]:
    """What a process is said to be on, then its rows."""
    rows: list[dict[str, Any]] = []
    if seconds < 1.0:
        return [{}, *(_missing(part, "no time was left") for part in parts)]
    told, going, event = {}, None, {}
    todo: list[dict[str, str]] = []
    with tempfile.TemporaryFile("w+") as noise:
        question = {"parts": list(parts), "seconds": seconds, "rates": rates, "size": size}
        stop = time.monotonic() + last
        flags = FLAGS.get(parts[0], "") if about.get("platform") == "cpu" else ""
        process = _start(noise, flags)
        lines = _lines(process, question)
        try:
            while True:
                event = lines.get(timeout=max(stop - time.monotonic(), 0.01))
                if event is None:
                    break
                kind = event.pop("event")
                if kind == "about":
                    told = event
                elif kind == "todo":
                    todo += event["items"]
                elif kind == "begin":
                    going = event
                else:
                    rows.append(event)
                    going = None
                    _say(event, quiet)
            status = process.wait()
            reason = f"its process ended with status {status}{_end_of(noise)}" if status else ""
        except queue.Empty:
            reason = "no time: ended while it was being measured"
        finally:
            process.kill()
            process.wait()
            while event is not None:  # the thread closes what it reads from
                event = lines.get()
    if reason and going:
        kind = "left_out" if reason.startswith("no time") else "failed"
        rows.append({**going, kind: reason})
    done = {(row["part"], row["name"]) for row in rows}
    rest = "its process had ended" if reason and not reason.startswith("no time") else "no time"
    rows += [{**one, "left_out": rest} for one in todo if (one["part"], one["name"]) not in done]
    named = {row["part"] for row in rows}
    kind = "failed" if reason and not reason.startswith("no time") else "left_out"
    why = "no time: nothing was begun" if kind == "left_out" and reason else reason
    rows += [
        {"part": part, "name": "everything", kind: why or "nothing to measure here"}
        for part in parts
        if part not in named
    ]
    return [told, *rows]


def _missing(part: str, reason: str) -> dict[str, Any]:
    return {"part": part, "name": "everything", "left_out": reason}


def _start(noise: IO[str], flags: str) -> subprocess.Popen[str]:
    environment = dict(os.environ)
    if flags:
        environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {flags}".strip()
    return workers.start("ctrak_jax.bench.accelerator.worker", environment, noise)


def _lines(process: subprocess.Popen[str], question: dict[str, Any]) -> queue.Queue[Any]:
    """What a process answers, then None: by a thread, so that the waiting can end."""
    found: queue.Queue[Any] = queue.Queue()

    def read() -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with process.stdin:
                workers.ask(process, question)
            with process.stdout:
                for line in process.stdout:
                    found.put(json.loads(line))
        except (OSError, ValueError):  # it was ended
            pass
        found.put(None)

    threading.Thread(target=read, daemon=True).start()
    return found


def _end_of(noise: IO[str]) -> str:
    noise.seek(0)
    lines = noise.read().strip().splitlines()
    return f": {lines[-1][:300]}" if lines else ""


def _say(row: dict[str, Any], quiet: bool) -> None:
    if quiet:
        return
    words = {"left_out": "left out", "failed": "failed"}
    end = next((f"{word}: {row[key]}" for key, word in words.items() if key in row), "done")
    print(f"{row['part']}: {row['name']}: {end}", file=sys.stderr, flush=True)


def save(result: dict[str, Any], folder: Path | None) -> None:
    """Print the tables, and write the files where a folder is given."""
    print(markdown(result))
    if folder is not None:
        for file in write(result, folder):
            print(file)
