"""The command line as its users run it: in a process of its own, or without the start of one."""

import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from ctrak_jax import cli
from tests.compiler import xla_flags


def environment(devices: int = 1) -> dict[str, str]:
    """This process's environment with a number of CPU devices."""
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla_flags(devices)}


def command(*args: str | Path) -> list[str]:
    """``ctrak ...`` as arguments of a process."""
    return [sys.executable, "-m", "ctrak_jax.cli", *map(str, args)]


def ctrak(*args: str | Path, devices: int = 1) -> subprocess.CompletedProcess[str]:
    """Run ``ctrak ...`` to its end."""
    env = environment(devices)
    return subprocess.run(command(*args), capture_output=True, text=True, env=env, timeout=500)


def ctrak_here(*args: str | Path) -> subprocess.CompletedProcess[str]:
    """The same in this process: without the start of JAX, with shapes checked, on eight devices
    where the run's ``run.devices`` says nothing."""
    given = [*map(str, args)]
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = cli.main(given)
    return subprocess.CompletedProcess(given, status, out.getvalue(), err.getvalue())
