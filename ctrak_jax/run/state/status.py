"""The state of a run in another process, read from its folder alone; nothing is written or locked.

A command leaves its state in ``.progress/`` (:mod:`ctrak_jax.progress.beacon`), and a line of
``log.jsonl`` for every stage that has ended. Times of another machine are compared with this
machine's clock.
"""

import json
import os
import socket
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ctrak_jax.errors import UsageError
from ctrak_jax.progress.beacon import FOLDER, MOST
from ctrak_jax.run.state.logs import read_log

SILENT = 6 * MOST
"""Seconds without a sign after which a process is taken for lost."""
SLOW, SLOWEST = 10.0, 60.0
"""So many usual pieces, and at least so many seconds, without one: work has stalled."""
ENDED = ("done", "failed", "interrupted", "killed", "unknown")
"""States that nothing follows."""
WORST = ("killed", "failed", "silent", "stalled", "running", "interrupted", "done")
"""The state of several processes is the first of these that one of them has."""
SHOWN = (
    *("command", "stages", "number", "stage", "part", "fraction", "unknown"),
    *("compiling_for", "compiled_seconds", "piece_seconds", "left_is_all", "warning", "error"),
)
"""What is taken from the first process's state as it is."""


def describe(out: Path, now: float | None = None) -> dict[str, Any]:
    """What a run is doing and has done.

    Args:
        out: its folder.
        now: seconds since the epoch.

    Raises:
        UsageError: there is no run.
    """
    now = time.time() if now is None else now
    commands, lines = _commands(out), read_log(out) if out.is_dir() else []
    if not commands and not lines:
        raise UsageError(f"{out}: no command has left its progress here; give a run's folder.")
    found = [_described(states, now) for states in commands]
    if not found:
        found = [{"state": "unknown", "stages": [], "processes": []}]
    about = {"dir": str(out), **found[0], "finished": _finished(lines)}
    return about | {"others": [one for one in found[1:] if one["state"] not in ENDED]}


def _commands(out: Path) -> list[list[dict[str, Any]]]:
    """The states of every command's processes, the command written last first."""
    by_command: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for file in sorted(out.glob(f"{FOLDER}/*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            state = json.loads(file.read_text(encoding="utf-8"))
            _described([state], state["written"])  # one of another version lacks something
            by_command[state["command"]].append(state)
    for states in by_command.values():
        states.sort(key=lambda state: state["process"])
    return sorted(by_command.values(), key=lambda states: -max(s["written"] for s in states))


def _described(states: Sequence[Mapping[str, Any]], now: float) -> dict[str, Any]:
    """A command of some processes."""
    first = states[0]
    states = [state for state in states if state["process"] < first["processes"]]
    processes = [
        {
            **{name: state[name] for name in ("process", "host", "pid", "done", "total", "part")},
            "state": _state(state, now),
            "sign_age": now - state["written"],
        }
        for state in states
    ]
    own = {one["state"] for one in processes}
    state = next(name for name in WORST if name in own)
    counted = [s for s in states if s["total"] and s["part"] == first["part"]]
    pieces = [s["piece_at"] for s in counted if s["piece_at"] is not None]
    lefts = [left for s in counted if (left := _passed(s, "left", now)) is not None]
    total = sum(s["total"] for s in counted) or None
    done = sum(s["done"] for s in counted)
    return {
        "state": state,
        **{name: first[name] for name in SHOWN},
        "begun_age": now - first["begun"],
        "sign_age": min(one["sign_age"] for one in processes),
        "done": done if total else None,
        "total": total,
        "fraction": done / total if total else None,
        "rate": sum(s["rate"] or 0.0 for s in counted) or None,
        "left": max(lefts, default=None),
        "left_in_all": _passed(first, "left_in_all", now),
        "piece_age": now - max(pieces) if pieces else None,
        "expected_processes": first["processes"],
        "processes": processes,
    }


def _passed(state: Mapping[str, Any], name: str, now: float) -> float | None:
    """Seconds left, less those since they were written, if those were of work."""
    if state[name] is None or state["compiling_for"] is not None or state["state"] != "running":
        return state[name]
    return max(state[name] - min(now - state["written"], MOST), 0.0)


def _state(state: Mapping[str, Any], now: float) -> str:
    if state["state"] != "running":
        return state["state"]
    if state["host"] == socket.gethostname() and not _is_there(state["pid"]):
        return "killed"
    if now - state["written"] > SILENT:
        return "silent"
    usual, last = state["piece_seconds"], state["piece_at"]
    if usual is not None and last is not None and state["compiling_for"] is None:
        unfinished = (state["done"] or 0) < (state["total"] or 0)
        if unfinished and now - last > max(SLOW * usual, SLOWEST):
            return "stalled"
    return "running"


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _finished(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The last line of every stage of the first process."""
    names = ("stage", "status", "seconds", "compile_seconds", "end")
    last = {line["stage"]: line for line in lines if line.get("process", 0) == 0}
    return [{name: line.get(name) for name in names} for line in last.values()]
