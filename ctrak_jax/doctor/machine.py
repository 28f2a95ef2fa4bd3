"""The machine: devices, memory, compiled programs on disk, and free disk."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from ctrak_jax.doctor.checks import Check, tried
from ctrak_jax.errors import pip_install

GROUP = "machine"
LEAST_MEMORY = 2e9
"""Bytes free: `make run` takes 1.2 GB."""
LEAST_DISK = 1e9
"""Bytes free: `make run` leaves 0.4 GB."""
DRIVERS = {"gpu": Path("/proc/driver/nvidia/version"), "tpu": Path("/dev/accel0")}
"""What is there where an accelerator is, by the optional part that serves it."""


def checks(place: Path, programs: Path | None) -> Iterator[Check]:
    """All of this machine's."""
    yield tried(GROUP, "devices", "unset JAX_PLATFORMS, or set it to cpu", _devices)
    yield _memory()
    yield _programs(programs)
    yield tried(GROUP, "disk", "give a folder that is there: --dir DIR", lambda: _disk(place))


def _devices() -> Check:
    backend, found = jax.default_backend(), jax.local_devices()
    kinds = Counter(device.device_kind for device in found)
    said = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
    stats = found[0].memory_stats() or {}
    numbers: dict[str, Any] = {"backend": backend, "devices": len(found)}
    if "bytes_limit" in stats:
        numbers["device_memory_gb"] = round(stats["bytes_limit"] / 1e9, 1)
        said += f" of {numbers['device_memory_gb']:g} GB each"
    elif backend == "cpu":
        cores = numbers["cores"] = _cores()
        said += f" on {cores} {'cores' if cores > 1 else 'core'}"
    if asked := os.environ.get("JAX_PLATFORMS"):
        return Check(GROUP, "devices", "ok", f"{said} (JAX_PLATFORMS={asked})", numbers=numbers)
    unused = [part for part, driver in DRIVERS.items() if driver.exists() and backend != part]
    if unused:
        said += f"; this machine has a {unused[0].upper()} that JAX does not use"
        advice = pip_install(f"ctrak-jax[{unused[0]}]")
        return Check(GROUP, "devices", "note", said, advice, numbers)
    return Check(GROUP, "devices", "ok", said, numbers=numbers)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> Check:
    page = os.sysconf("SC_PAGE_SIZE")
    total = page * os.sysconf("SC_PHYS_PAGES")
    numbers = {"total_gb": round(total / 1e9, 1)}
    free = _available()
    if free is None:
        return Check(GROUP, "memory", "ok", f"{total / 1e9:.1f} GB", numbers=numbers)
    numbers["free_gb"] = round(free / 1e9, 1)
    said = f"{free / 1e9:.1f} GB free of {total / 1e9:.1f} GB"
    if free >= LEAST_MEMORY:
        return Check(GROUP, "memory", "ok", said, numbers=numbers)
    advice = f"end other programs; {LEAST_MEMORY / 1e9:g} GB are enough for make run"
    return Check(GROUP, "memory", "note", said, advice, numbers)


def _available() -> float | None:
    """Bytes that programs may still take, where the system says."""
    info = Path("/proc/meminfo")
    if not info.exists():
        return None
    lines = (line.partition(":") for line in info.read_text().splitlines())
    found = {name: value for name, _, value in lines}
    return 1024.0 * int(found["MemAvailable"].split()[0]) if "MemAvailable" in found else None


def _programs(folder: Path | None) -> Check:
    name = "compiled programs"
    if folder is None:
        return Check(GROUP, name, "note", "not kept", "set run.compilation_cache to a folder")
    entries = [entry for entry in folder.glob("*") if entry.is_file()] if folder.is_dir() else []
    size = sum(entry.stat().st_size for entry in entries)
    nearest = next(part for part in (folder, *folder.parents) if part.exists())
    said = f"{folder}, {size / 1e6:.0f} MB"
    numbers = {"folder": str(folder), "bytes": size}
    if os.access(nearest, os.W_OK | os.X_OK):
        return Check(GROUP, name, "ok", said, numbers=numbers)
    advice = "set run.compilation_cache to a folder that can be written, or every command compiles"
    return Check(GROUP, name, "note", f"{said}, cannot be written", advice, numbers)


def _disk(place: Path) -> Check:
    usage = shutil.disk_usage(place)
    said = f"{usage.free / 1e9:.1f} GB free of {usage.total / 1e9:.1f} GB at {place.resolve()}"
    numbers = {"free_gb": round(usage.free / 1e9, 1), "total_gb": round(usage.total / 1e9, 1)}
    if usage.free >= LEAST_DISK:
        return Check(GROUP, "disk", "ok", said, numbers=numbers)
    advice = f"free {LEAST_DISK / 1e9:g} GB, or give another folder: --dir DIR"
    return Check(GROUP, "disk", "failed", said, advice, numbers)
