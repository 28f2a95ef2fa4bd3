"""The command line as its users run it: in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path


def environment(devices: int = 1) -> dict[str, str]:
    """This process's environment with a number of CPU devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}


def command(*args: str | Path) -> list[str]:
    """``ctrak ...`` as arguments of a process."""
    return [sys.executable, "-m", "ctrak_jax.cli", *map(str, args)]


def ctrak(*args: str | Path, devices: int = 1) -> subprocess.CompletedProcess[str]:
    """Run ``ctrak ...`` to its end."""
    return subprocess.run(
        command(*args), capture_output=True, text=True, env=environment(devices), timeout=500
    )
