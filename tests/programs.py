"""What XLA compiled, kept on disk: once for both workers, their processes and the next run."""

import shutil
from pathlib import Path

from tests.paths import ROOT

KEPT = ROOT / ".pytest_cache" / "programs"
"""`make clean` removes it, and so does a run that finds it larger than LIMIT."""
LIMIT = 2e9


def settings(folder: Path = KEPT) -> dict[str, str]:
    """Environment variables with which JAX keeps every program in ``folder``."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def trim(folder: Path = KEPT) -> None:
    """Remove a folder that has grown too large; no other process may use it yet."""
    if sum(file.stat().st_size for file in folder.glob("*")) > LIMIT:
        shutil.rmtree(folder)
