"""The command line as its users run it: in a process of its own."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.compiler import xla_flags
from tests.programs import options

PROGRAMS = tempfile.TemporaryDirectory(prefix="ctrak-programs-")
"""What one process compiled, for those that :func:`ctrak` starts after it."""


def environment(devices: int = 1) -> dict[str, str]:
    """This process's environment with a number of CPU devices."""
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla_flags(devices)}


def command(*args: str | Path) -> list[str]:
    """``ctrak ...`` as arguments of a process."""
    return [sys.executable, "-m", "ctrak_jax.cli", *map(str, args)]


def ctrak(*args: str | Path, devices: int = 1) -> subprocess.CompletedProcess[str]:
    """Run ``ctrak ...`` to its end; a program that was compiled before is not compiled again."""
    kept = {name.upper(): str(value) for name, value in options(Path(PROGRAMS.name)).items()}
    env = environment(devices) | kept
    return subprocess.run(command(*args), capture_output=True, text=True, env=env, timeout=500)
