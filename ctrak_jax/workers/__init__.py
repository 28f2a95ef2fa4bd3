"""Processes that answer in lines of JSON, started by those that wait for them: a compiler for
another platform, other devices, or work that may have to be ended."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import IO, Any


def start(
    module: str, environment: Mapping[str, str], noise: IO[str] | None = None
) -> subprocess.Popen[str]:
    """``python -m module`` with pipes to and from it.

    Args:
        module: its name.
        environment: all of its environment variables.
        noise: takes its stderr; by default that is this process's.
    """
    return subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=noise,
        text=True,
        env=environment,
    )


def ask(process: subprocess.Popen[str], question: Mapping[str, Any]) -> None:
    """Send one line."""
    assert process.stdin is not None
    process.stdin.write(json.dumps(question) + "\n")
    process.stdin.flush()
