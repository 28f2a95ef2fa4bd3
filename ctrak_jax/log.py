"""Logs and progress on stderr, one JSON line per stage in log.jsonl."""

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

from rich import progress
from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text

from ctrak_jax import meeting
from ctrak_jax.errors import OutOfTime

logger = logging.getLogger("ctrak")
console = Console(stderr=True)
_RECORDS: list[dict[str, Any]] = []
QUIET_SECONDS = 20.0
"""Without a terminal, seconds between progress lines."""


def set_up() -> None:
    """Send the package's log to stderr; CTRAK_LOG sets the level (default info)."""
    level = os.environ.get("CTRAK_LOG", "info").upper()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        level = "INFO"
    handler = RichHandler(console=console, show_path=False, log_time_format="[%X]", markup=False)
    logger.handlers[:] = [handler]
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


class _Rate(progress.ProgressColumn):
    def render(self, task: progress.Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


class Meter:
    """Counts finished items; a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, title: str, total: int, done: int = 0) -> None:
        self.title, self.total, self.done = title, total, done
        self._first, self._started = done, time.monotonic()
        self._last_line = self._started
        self.bar: progress.Progress | None = None
        if console.is_terminal:
            self.bar = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                _Rate(),
                progress.TimeRemainingColumn(),
                console=console,
            )
            self._task = self.bar.add_task(title, total=total, completed=done)
            self.bar.start()

    def advance(self, count: int) -> None:
        self.done += count
        meeting.progress()
        if self.bar is not None:
            self.bar.advance(self._task, count)
        elif time.monotonic() - self._last_line > QUIET_SECONDS:
            self._last_line = time.monotonic()
            rate = (self.done - self._first) / max(self._last_line - self._started, 1e-9)
            left = (self.total - self.done) / max(rate, 1e-9)
            line = "%s %d/%d, %.1f/s, %d s left"
            logger.info(line, self.title, self.done, self.total, rate, left)


@contextmanager
def meter(title: str, total: int, done: int = 0) -> Iterator[Meter]:
    """A :class:`Meter` whose bar stops whatever happens."""
    found = Meter(title, total, done)
    try:
        yield found
    finally:
        if found.bar is not None:
            found.bar.stop()


@dataclass
class StageRecord:
    """What a stage adds to its line of log.jsonl."""

    samples: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


@contextmanager
def stage(root: Path, name: str, devices: int = 1) -> Iterator[StageRecord]:
    """Time a stage; its line in ``root/log.jsonl`` is written where it fails, too."""
    import jax

    record, start, clock = StageRecord(), datetime.now(UTC), time.monotonic()
    meeting.progress()
    logger.info("%s ...", name)
    status = "failed"
    try:
        yield record
        status = "done"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        seconds = time.monotonic() - clock
        line = {
            "stage": name,
            "status": status,
            "start": start.isoformat(timespec="seconds"),
            "end": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "samples": record.samples,
            "samples_per_second": round(record.samples / seconds, 3) if record.samples else None,
            "devices": f"{devices} x {jax.local_devices()[0].device_kind}",
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
        logger.info("%s %s in %.1f s", name, status, seconds)
