"""Logs on stderr, one JSON line per stage in log.jsonl."""

import json
import logging
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.logging import RichHandler

from ctrak_jax import meeting
from ctrak_jax.errors import OutOfTime
from ctrak_jax.progress import board, compilation, meter, watch
from ctrak_jax.progress.board import Warnings, console

__all__ = [
    "Deadline",
    "StageRecord",
    "deadline",
    "logger",
    "meter",
    "records",
    "set_up",
    "stage",
    "timed",
]
logger = logging.getLogger("ctrak")
_RECORDS: list[dict[str, Any]] = []


def set_up() -> None:
    """Send the package's log to stderr; CTRAK_LOG sets the level (default info). On a terminal
    long lines are wrapped, elsewhere a message stays one line."""
    level = os.environ.get("CTRAK_LOG", "info").upper()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        level = "INFO"
    if console.is_terminal:
        handler: logging.Handler = RichHandler(
            console=console, show_path=False, log_time_format="[%X]"
        )
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("[%(asctime)s] %(levelname)-8s %(message)s", "%X"))
    logger.handlers[:] = [handler, Warnings()]
    logger.setLevel(level)
    logger.propagate = False
    logging.getLogger("absl").setLevel(logging.ERROR)


def records() -> list[dict[str, Any]]:
    """The lines that this process has written to log.jsonl, in order."""
    return list(_RECORDS)


class Deadline:
    """When a command has to end, at the end of a piece that is saved; by default never.

    It is a soft one: a command does at least one piece, so that repeating it comes to the end.
    """

    def __init__(self) -> None:
        self.set(math.inf)

    def set(self, minutes: float) -> None:
        """Give the command so many minutes from now."""
        self.minutes, self._end = minutes, time.monotonic() + 60 * minutes

    @property
    def passed(self) -> bool:
        return time.monotonic() > self._end

    def check(self) -> None:
        """End the command where its time is up; called where more is to be done and what is done
        is saved.

        Raises:
            OutOfTime: it is up.
        """
        if self.passed:
            raise OutOfTime(
                f"the {self.minutes:g} minutes are over; finished work is kept, the same command "
                "resumes there."
            )


deadline = Deadline()
"""Of this process."""


@dataclass
class StageRecord:
    """What a stage adds to its line of log.jsonl."""

    samples: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


def devices_of(count: int) -> str:
    """So many devices of this process, as a line names them."""
    import jax

    return f"{count} x {jax.local_devices()[0].device_kind}"


@contextmanager
def stage(root: Path, name: str, devices: int = 1) -> Iterator[StageRecord]:
    """Time a stage; its line in ``root/log.jsonl`` is written where it fails, too."""
    import jax

    record, start, clock = StageRecord(), datetime.now(UTC), time.monotonic()
    watch()
    meeting.progress()
    board.title = name
    logger.info("%s ...", board.heading(name))
    status = "failed"
    try:
        yield record
        status = "done"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        now = time.monotonic()
        seconds, compiled = now - clock, compilation.seconds(clock, now)
        line = {
            "stage": name,
            "status": status,
            "start": start.isoformat(timespec="seconds"),
            "end": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "compile_seconds": round(compiled, 3),
            "process": jax.process_index(),
            "samples": record.samples,
            "samples_per_second": round(record.samples / seconds, 3) if record.samples else None,
            "devices": devices_of(devices),
            **record.extra,
            "versions": {
                "python": sys.version.split()[0],
                **{p: version(p) for p in ("ctrak-jax", "jax", "jaxlib", "flax", "numpy")},
            },
        }
        _RECORDS.append(line)
        root.mkdir(parents=True, exist_ok=True)
        with (root / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        _log_end(name, status, seconds, compiled)


@contextmanager
def timed(title: str) -> Iterator[None]:
    """Say how long something took once it is done, compilation apart."""
    watch()
    clock = time.monotonic()
    yield
    now = time.monotonic()
    _log_end(title, "done", now - clock, compilation.seconds(clock, now))


def _log_end(title: str, status: str, seconds: float, compiled: float) -> None:
    compiling = f", {compiled:.1f} s of them compiling" if compiled >= 1 else ""
    logger.info("%s %s in %.1f s%s", title, status, seconds, compiling)
