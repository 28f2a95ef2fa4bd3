"""Featurizing one batch in processes of 1, 2, 4 and 8 host devices: are the features the same, and
what does the splitting cost? All devices share one machine: more of them compute nothing faster.

How many there are must be set before JAX starts, so each number has a process of its own
(:mod:`ctrak_jax.bench.forced`). They live side by side and compute in turns.
"""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ctrak_jax import workers
from ctrak_jax.bench.timing import Call, Program, Row, in_turns
from ctrak_jax.bench.work import Sizes
from ctrak_jax.errors import UsageError
from ctrak_jax.log import logger

DEVICES = (1, 2, 4, 8)
TOLERANCE = 1e-5
"""Largest relative difference of a sample's features between numbers of devices."""
FLAG = "--xla_force_host_platform_device_count"


def scaling(
    sizes: Sizes, devices: Sequence[int] = DEVICES, method: str = "concept-trak"
) -> list[Row]:
    """A method's features of a batch on several numbers of forced host devices.

    Raises:
        UsageError: the batch cannot be split evenly.
        ArithmeticError: the features differ by more than ``TOLERANCE``.
    """
    if sizes.batch % max(devices):
        raise UsageError(
            f"--batch {sizes.batch} must be a multiple of {max(devices)} to be split over so many "
            f"devices; try {sizes.batch + -sizes.batch % max(devices)}."
        )
    with tempfile.TemporaryDirectory(prefix="ctrak-bench-") as folder, ExitStack() as stack:
        calls = []
        for count in devices:
            process = stack.enter_context(_process(count))
            file = str(Path(folder) / f"{count}.npy")
            question = {"batch": sizes.batch, "k": sizes.k, "method": method, "file": file}
            calls.append(_call(process, question, _title(count), _title(devices[0])))
        rows = in_turns(calls, sizes.repeats)
    refuse_different(rows)
    return rows


def refuse_different(rows: Sequence[Row]) -> None:
    """Raise ArithmeticError where features differ by more than ``TOLERANCE``, or are no numbers."""
    for row in rows:
        if row.difference is not None and not row.difference <= TOLERANCE:
            raise ArithmeticError(
                f"{row.name}: features differ from those of {row.truth} by {row.difference:.1e}, "
                f"expected at most {TOLERANCE:g}. These timings compare different work."
            )


def _title(devices: int) -> str:
    return f"{devices} device{'s' * (devices > 1)}"


def _call(process: subprocess.Popen[str], question: dict[str, Any], name: str, truth: str) -> Call:
    logger.info("bench %s: compiling", name)
    program = Program(compiled=_ask, **_ask(process, question))

    def run() -> np.ndarray:
        _ask(process, {})
        return np.load(question["file"])

    return Call(name, run, question["batch"], program, peer=truth, truth=truth)


@contextmanager
def _process(devices: int) -> Iterator[subprocess.Popen[str]]:
    """A process that sees so many host devices, ended with the context."""
    others = re.sub(rf"{FLAG}=\S+", "", os.environ.get("XLA_FLAGS", ""))
    flags = f"{others} {FLAG}={devices}".strip()
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    with workers.start("ctrak_jax.bench.forced", environment) as process:
        try:
            yield process
        finally:
            process.terminate()
            with suppress(BrokenPipeError):  # of a process that has ended, what it was sent is lost
                if process.stdin is not None:
                    process.stdin.close()


def _ask(process: subprocess.Popen[str], question: dict[str, Any]) -> dict[str, Any]:
    """One line of JSON for another."""
    assert process.stdout is not None
    answer = ""
    with suppress(BrokenPipeError):
        workers.ask(process, question)
        answer = process.stdout.readline()
    if not answer:
        raise RuntimeError(
            f"a process with forced host devices ended with status {process.wait()} instead of "
            f"computing features; what it wrote to stderr says why."
        )
    return json.loads(answer)
