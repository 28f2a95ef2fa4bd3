"""Compiled programs kept on disk, so that the next command does not compile them again.

JAX's persistent compilation cache, in the user's cache folder. A program compiled for a CPU uses
that CPU's instructions and its number of cores, so each kind of machine has a folder of its own:
a home that several machines share holds the programs of all of them.
"""

import glob
import hashlib
import logging
import os
import platform
import re
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax

from ctrak_jax.log import logger

FAILED = re.compile(r"Error (reading|writing) persistent compilation cache entry for '(.*?)'")
"""JAX's warning of an entry that it cannot read or write: what failed, and the program's name."""

LIMIT = 2e9
"""Bytes of programs that are kept per kind of machine."""


def switch_on(setting: Path | str) -> None:
    """Keep compiled programs where ``run.compilation_cache`` says. Where they cannot be kept the
    log says so, and the command compiles.

    Args:
        setting: a folder; ``none``; or ``auto`` for the user's cache folder, unless the variable
            JAX_COMPILATION_CACHE_DIR is set, which is JAX's own.
    """
    if setting == "none":
        jax.config.update("jax_enable_compilation_cache", False)
        return
    if setting == "auto" and "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        folder = _place(setting)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _trim(folder)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{folder} cannot be written")
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
        level = logging.INFO if setting == "auto" else logging.WARNING
        logger.log(level, "compiled programs are not kept: %s", error)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    warnings.showwarning = partial(_show, folder, warnings.showwarning)


def folder_of(setting: Path | str) -> Path | None:
    """Where compiled programs are kept, which need not be there yet; None for nowhere."""
    if setting == "none":
        return None
    if setting == "auto" and (given := os.environ.get("JAX_COMPILATION_CACHE_DIR")):
        return Path(given)
    try:
        return _place(setting)
    except RuntimeError:  # there is no home folder
        return None


def _place(setting: Path | str) -> Path:
    return (_cache_folder() if setting == "auto" else Path(setting)) / _machine()


def _show(
    folder: Path, otherwise: Callable[..., None], message: Warning | str, *where: Any, **how: Any
) -> None:
    """Show a warning; one of an entry that another process or a full disk left unfinished removes
    the entry, which JAX itself would neither use nor write again."""
    failed = FAILED.match(str(message))
    if failed is None:
        otherwise(message, *where, **how)
        return
    for entry in folder.glob(f"{glob.escape(failed[2])}-*"):
        entry.unlink(missing_ok=True)
    logger.info("compiled programs in %s: %s", folder, message)


def _trim(folder: Path) -> None:
    """Remove the programs used longest ago, until those left take at most ``LIMIT`` bytes."""
    total = 0
    for entry in sorted(folder.glob("*"), key=lambda file: -file.stat().st_atime):
        total += entry.stat().st_size
        if total > LIMIT:
            entry.unlink(missing_ok=True)


def _cache_folder() -> Path:
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "ctrak-jax"
    home = Path.home()
    own = {"darwin": home / "Library" / "Caches", "win32": home / "AppData" / "Local"}
    return own.get(sys.platform, home / ".cache") / "ctrak-jax"


def _machine() -> str:
    """A name of this kind of CPU: its instructions, and the cores this process may use."""
    features = platform.processor()
    if (info := Path("/proc/cpuinfo")).exists():
        lines = info.read_text().splitlines()
        features = next((x for x in lines if x.startswith(("flags", "Features"))), features)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return hashlib.sha256(f"{platform.machine()} {features} {cores}".encode()).hexdigest()[:16]
