"""Processes of a featurization on loopback that do not come, hang, fail and are killed.

    python -m benchmarks.host_faults [--only WORD]

One row per fault: how the others ended, how long after it, and the line that they ended with.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

SETTINGS = (
    *("--data.size=600", "--train.steps=20", "--projection.k=512", "--store.chunk=16"),
    *("--gradient.batch=16", "--controls=[]", "--methods=[d-trak]", "--unnamed.attributes=[]"),
)
JOIN, BARRIER = 8, 12
SLURM = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
NOWHERE = {**SLURM, "SLURM_PROCID": "1", "SLURM_STEP_NODELIST": "node.invalid"}


class Running(NamedTuple):
    """A process, and the file of what it says."""

    process: subprocess.Popen[bytes]
    words: Path

    def says(self, text: str) -> bool:
        return text in self.words.read_text(errors="replace")


class Fault(NamedTuple):
    """What goes wrong.

    Attributes:
        starts: which processes are started, with further arguments of each.
        strike: what is done to one when all compute, and which one.
        env: further variables of all.
    """

    starts: dict[int, tuple[str, ...]]
    strike: Callable[[subprocess.Popen[bytes]], None] | None = None
    struck: int = 1
    env: Mapping[str, str] = MappingProxyType({})


def sent(number: signal.Signals) -> Callable[[subprocess.Popen[bytes]], None]:
    return lambda process: process.send_signal(number)


BOTH: dict[int, tuple[str, ...]] = {0: (), 1: ()}
FAULTS = {
    "the second does not come": Fault({0: ()}),
    "the first does not come": Fault({1: ()}),
    "two of three come": Fault({0: (), 2: ()}),
    "two have one number": Fault({0: (), 1: (), -1: ("--process=1",)}),
    "another --processes": Fault({0: (), 1: ("--processes=3",)}),
    "the second is killed": Fault(BOTH, sent(signal.SIGKILL)),
    "the first is killed": Fault(BOTH, sent(signal.SIGKILL), 0),
    "the second is told to end": Fault(BOTH, sent(signal.SIGTERM)),
    "the first is interrupted": Fault(BOTH, sent(signal.SIGINT), 0),
    "the second hangs": Fault(BOTH, sent(signal.SIGSTOP)),
    "the first hangs": Fault(BOTH, sent(signal.SIGSTOP), 0),
    "the second refuses its settings": Fault({0: (), 1: ("--gradient.include=[none]",)}),
    "Slurm without a step": Fault({-1: ("--distributed",)}, env=SLURM),
    "Slurm's variables of no node": Fault({-1: ("--distributed",)}, env=NOWHERE),
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(fault: Fault, run: Path) -> dict[int, Running]:
    """The processes of a fault, all of one meeting; a negative number says itself which it is."""
    port, found = free_port(), {}
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "CTRAK_LOG": "debug", **fault.env}
    count = max(2, *(number + 1 for number in fault.starts)) if len(fault.starts) < 3 else 2
    for number, more in fault.starts.items():
        command = [sys.executable, "-m", "ctrak_jax.cli", "featurize", str(run)]
        command += [f"--join-timeout={JOIN}", f"--barrier-timeout={BARRIER}"]
        if "--distributed" not in more:
            command += [f"--coordinator=127.0.0.1:{port}", f"--processes={count}"]
            command += [f"--process={number}"]
        words = run.parent / f"words.{number}"
        with words.open("wb") as file:
            process = subprocess.Popen([*command, *more], env=env, stdout=file, stderr=file)
        found[number] = Running(process, words)
    return found


def seconds_of(watched: Sequence[Running], since: float) -> list[float]:
    """When each ended, after 150 s at most."""
    found = [150.0] * len(watched)
    while time.monotonic() - since < 150 and any(r.process.poll() is None for r in watched):
        now = time.monotonic() - since
        found = [
            min(seconds, 150.0 if one.process.poll() is None else now)
            for seconds, one in zip(found, watched, strict=True)
        ]
        time.sleep(0.05)
    last = min(time.monotonic() - since, 150.0)
    return [min(seconds, last) for seconds in found]


def ended(running: Running, seconds: float) -> str:
    """Status, seconds, and the last line of its own; and whether JAX has printed a stack trace."""
    status = running.process.poll()
    said = running.words.read_text(errors="replace")
    lines = [line for line in said.splitlines() if line.startswith("ctrak: ")]
    line = re.sub(r"127\.0\.0\.1:\d+", "HOST:PORT", lines[-1]) if lines else "(no line)"
    trace = ", a stack trace" if "stack trace" in said or "Traceback" in said else ""
    return f"status {status} after {seconds:.0f} s{trace}: {line.removeprefix('ctrak: ')}"


def tried(fault: Fault, run: Path) -> list[tuple[int, str]]:
    """How those ended that nothing was done to."""
    shutil.rmtree(run / "features", ignore_errors=True)
    since, running = time.monotonic(), start(fault, run)
    try:
        if fault.strike is not None:
            while not all(r.says("computed rows") for r in running.values()):
                if any(r.process.poll() is not None for r in running.values()):
                    raise SystemExit(f"ended before the fault: {running}")
                time.sleep(0.02)
            fault.strike(running[fault.struck].process)
            since = time.monotonic()
        watched = [n for n in running if fault.strike is None or n != fault.struck]
        seconds = seconds_of([running[number] for number in watched], since)
        return [(n, ended(running[n], s)) for n, s in zip(watched, seconds, strict=True)]
    finally:
        for one in running.values():
            one.process.kill()
            one.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where it is started by `&`
    parser.add_argument("--only", default="", help="faults with this word in their name")
    asked, folder = parser.parse_args(), Path(tempfile.mkdtemp(prefix="ctrak-faults-"))
    run, empty = folder / "run", folder / "empty.yaml"
    empty.write_text("")
    train = [sys.executable, "-m", "ctrak_jax.cli", "train", str(empty), "--out", str(run)]
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    subprocess.run([*train, *SETTINGS], check=True, capture_output=True, env=env)
    print(f"--join-timeout {JOIN}, --barrier-timeout {BARRIER}\n\n| fault | process | its end |")
    print("|---|---|---|", flush=True)
    for name, fault in FAULTS.items():
        if asked.only in name:
            for number, end in tried(fault, run):
                print(f"| {name} | {number if number >= 0 else ''} | {end} |", flush=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
