"""A featurization killed with SIGKILL at random moments, again and again, against one left alone.

    python -m benchmarks.kills [--kills 20] [--processes 1]

With several processes one of them is killed, by turns, and then the others.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = {
    "data.size": 2000,
    "train.steps": 50,
    "projection.k": 2048,
    "store.chunk": 16,
    "gradient.batch": 16,
    "controls": [],
    "trajectory.condition": "null",
    "unnamed.attributes": [],
    "methods": ["concept-trak", "das"],
}
DEVICES = 2


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(stage: str, out: Path, processes: int, log: Path) -> list[subprocess.Popen[bytes]]:
    """``ctrak STAGE`` in so many processes, their words in a file each."""
    flags = f"--xla_force_host_platform_device_count={DEVICES}"
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "CTRAK_LOG": "debug"}
    port, running = free_port(), []
    for process in range(processes):
        command = [sys.executable, "-m", "ctrak_jax.cli", stage, str(out)]
        if processes > 1:
            command += ["--coordinator", f"127.0.0.1:{port}", "--processes", str(processes)]
            command += ["--process", str(process)]
        with log.with_suffix(f".{process}").open("wb") as words:
            running.append(subprocess.Popen(command, env=env, stdout=words, stderr=words))
    return running


def finish(running: list[subprocess.Popen[bytes]], log: Path) -> None:
    for number, process in enumerate(running):
        if process.wait():
            raise SystemExit(log.with_suffix(f".{number}").read_text())


def computed(log: Path) -> int:
    """Chunks that the processes of a session computed to their end."""
    files = log.parent.glob(f"{log.stem}.*")
    return sum(file.read_text(errors="replace").count("computed rows") for file in files)


def content(out: Path) -> dict[str, bytes]:
    """Every file of the feature stores; tensorstore's unfinished ones are not theirs."""
    files = sorted(f for f in (out / "features").rglob("*") if f.is_file())
    return {str(f.relative_to(out)): f.read_bytes() for f in files if "__lock" not in f.name}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng, folder = random.Random(asked.seed), Path(tempfile.mkdtemp(prefix="ctrak-kills-"))
    alone, killed = folder / "alone", folder / "killed"
    given = [a for name, value in SETTINGS.items() for a in (f"--{name}", json.dumps(value))]
    empty = folder / "empty.yaml"
    empty.write_text("")
    train = [sys.executable, "-m", "ctrak_jax.cli", "train", str(empty), "--out", str(alone)]
    subprocess.run([*train, *given], check=True, capture_output=True)
    shutil.copytree(alone, killed)

    began, log = time.monotonic(), folder / "alone"
    running = start("featurize", alone, asked.processes, log)
    while not computed(log) and running[0].poll() is None:
        time.sleep(0.01)
    start_up = time.monotonic() - began
    finish(running, log)
    chunks = computed(log)
    kills = sessions = total = 0
    while kills < asked.kills:
        log = folder / f"session-{sessions}"
        sessions += 1
        running = start("featurize", killed, asked.processes, log)
        victim = running[kills % asked.processes]
        # Some die while they start, most at a random moment between two chunks of the work.
        chunks_before, late = rng.choice([0, 1, 2]), rng.uniform(0.0, 0.5)
        wait = time.monotonic() + (rng.uniform(0.2, 1.0) * start_up if not chunks_before else 1e3)
        while time.monotonic() < wait and victim.poll() is None:
            if chunks_before and computed(log) >= chunks_before:
                wait, chunks_before = time.monotonic() + late, 0
            time.sleep(0.01)
        if victim.poll() is None:
            victim.send_signal(signal.SIGKILL)
            kills += 1
        for process in running:
            if asked.processes > 1 and process.poll() is None:
                process.kill()  # the others wait at a barrier until they notice; not here
            process.wait()
        total += computed(log)
        print(f"kill {kills}: {computed(log)} chunks computed", flush=True)
    log = folder / "last"
    finish(start("featurize", killed, asked.processes, log), log)
    total += computed(log)
    again = total - chunks
    same = content(alone) == content(killed)
    print(
        f"{asked.processes} process(es), {kills} kills in {sessions} sessions: store "
        f"{'bit-identical' if same else 'DIFFERENT'}; {chunks} chunks, {again} computed again"
    )
    shutil.rmtree(folder)
    if not same or again > kills * asked.processes:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
