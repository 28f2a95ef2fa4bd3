"""The state of a command in the folder of its results, for ``ctrak status``.

``DIR/.progress/COMMAND-PROCESS.json`` is written when something changes, every two seconds at most,
and every ten seconds at least: a file that is older is of a process that has ended without a word.
"""

import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from ctrak_jax.errors import OutOfTime
from ctrak_jax.progress.board import Board, board
from ctrak_jax.progress.compiling import watch
from ctrak_jax.progress.overall import Overall

FOLDER = ".progress"
TICK, LEAST, MOST = 1.0, 2.0, 10.0
"""Seconds: between two looks; between two writes where something has changed, and where not."""


class Process(NamedTuple):
    """Which one of a command's processes this is."""

    number: int = 0
    of: int = 1


ALONE = Process()


def file_of(out: Path, command: str, process: int) -> Path:
    """Where a process of a command writes its state."""
    return out / FOLDER / f"{re.sub(r'[^a-z0-9]+', '-', command)}-{process}.json"


class Beacon:
    """Shows the state of a board, and writes it below ``out``, if anywhere; a folder that cannot be
    written is left as it is."""

    def __init__(
        self, out: Path | None, command: str, process: Process, source: Board = board
    ) -> None:
        self._board = source
        self._file = None if out is None else file_of(out, command, process.number)
        self._about: dict[str, Any] = {
            "command": command,
            "process": process.number,
            "processes": process.of,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "begun": time.time(),
        }
        self._begun = source.clock()
        self._written = 0.0
        self._last: Mapping[str, Any] = {}
        self._ended, self._lock = threading.Event(), threading.Lock()

    def start(self) -> None:
        """Write now, and from now on by a thread."""
        self.write("running")
        threading.Thread(target=self._follow, name="progress", daemon=True).start()

    def end(self, state: str, error: str | None = None) -> None:
        """Write for the last time."""
        self._ended.set()
        self.write(state, error)

    def _follow(self) -> None:
        while not self._ended.wait(TICK):
            self._board.tick()
            found, now = self.state(), self._board.clock()
            changed = any(found[k] != self._last.get(k) for k in ("done", "part", "compiling_for"))
            if now - self._written > (LEAST if changed else MOST):
                self.write("running")

    def write(self, state: str, error: str | None = None) -> None:
        """The whole state, at once."""
        with self._lock, suppress(OSError):
            if self._file is None or (state == "running" and self._ended.is_set()):
                return
            found = self.state()
            self._last, self._written = found, self._board.clock()
            self._file.parent.mkdir(exist_ok=True)
            part = self._file.with_suffix(".part")
            line = {**self._about, **found, "state": state, "error": error, "written": time.time()}
            part.write_text(json.dumps(line, indent=1), encoding="utf-8")
            os.replace(part, self._file)

    def state(self) -> dict[str, Any]:
        """What changes."""
        source, overall, count = self._board, self._board.overall, self._board.outer
        now, wall = source.clock(), time.time()
        found: dict[str, Any] = {
            "stages": list(overall.stages) if overall else [],
            "number": overall.number if overall else 0,
            "stage": overall.stage if overall else "",
            "part": source.title,
            "compiled_seconds": round(source.compiling.seconds(self._begun, now), 1),
            "warning": source.warning,
        }
        since = source.compiling.since
        found["compiling_for"] = None if since is None else round(now - since)
        names = ("done", "total", "rate", "left", "fraction", "piece_at", "piece_seconds")
        found |= dict.fromkeys(names) | {"left_is_all": False}
        if count is not None:
            left, finished = count.left, count.done > count.first
            found |= {
                "done": count.done,
                "total": count.total,
                "rate": count.rate,
                "left": left.seconds,
                "left_is_all": left.whole,
                "fraction": count.fraction,
                "piece_at": wall - (now - count.last) if finished else None,
                "piece_seconds": count.piece_seconds,
            }
        in_all = overall.in_all(count) if overall else None
        found["left_in_all"] = in_all.seconds if in_all else None
        found["unknown"] = list(in_all.unknown) if in_all else []
        return found


@contextmanager
def tracked(
    out: Path | None, command: str, overall: Overall, process: Process = ALONE
) -> Iterator[Overall]:
    """Show where a command is in its stages until it ends, however it does, and write it below
    ``out``, if anywhere."""
    watch()
    board.overall, board.title, beacon = overall, "", Beacon(out, command, process)
    if out is not None and process.number == 0:
        _forget(out, command, process.of)
    beacon.start()
    try:
        yield overall
    except (KeyboardInterrupt, OutOfTime):
        beacon.end("interrupted")
        raise
    except BaseException as error:
        beacon.end("failed", str(error))
        raise
    else:
        beacon.end("done")
    finally:
        board.overall, board.title = None, ""


def _forget(out: Path, command: str, processes: int) -> None:
    """Remove the files of processes that an earlier command had more."""
    with suppress(OSError):
        number = processes
        while (file := file_of(out, command, number)).exists():
            file.unlink()
            number += 1
