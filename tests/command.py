"""The command line as its users run it: in a process of its own."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAMS = tempfile.TemporaryDirectory(prefix="ctrak-programs-")
"""What one process compiled, for those after it: removed when the tests end."""


def environment(devices: int = 1) -> dict[str, str]:
    """This process's environment with a number of CPU devices."""
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_COMPILATION_CACHE_DIR": PROGRAMS.name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def command(*args: str | Path) -> list[str]:
    """``ctrak ...`` as arguments of a process."""
    return [sys.executable, "-m", "ctrak_jax.cli", *map(str, args)]


def ctrak(*args: str | Path, devices: int = 1) -> subprocess.CompletedProcess[str]:
    """Run ``ctrak ...`` to its end."""
    return subprocess.run(
        command(*args), capture_output=True, text=True, env=environment(devices), timeout=500
    )
