"""The state of a run in another process, as lines."""

from collections.abc import Mapping
from typing import Any

from ctrak_jax.progress import words
from ctrak_jax.progress.overall import InAll
from ctrak_jax.progress.pieces import Left

STATES = {
    "running": "is running",
    "stalled": "is running, but finishes no pieces",
    "silent": "has stopped reporting: it was killed, or its machine cannot reach this folder",
    "killed": "was killed; the same command resumes",
    "done": "is done",
    "failed": "failed",
    "interrupted": "was interrupted; the same command resumes",
}


def text(found: Mapping[str, Any]) -> str:
    """What ``ctrak status`` prints."""
    lines = [_head(found)]
    if found["state"] in ("running", "stalled", "silent", "killed"):
        lines += _work(found)
    if found.get("error"):
        lines.append(f"error: {found['error']}")
    if len(found["processes"]) > 1 or found.get("expected_processes", 1) > 1:
        lines += _processes(found)
    done = [_stage(line) for line in found["finished"]]
    if done:
        lines.append(f"stages: {', '.join(done)}")
    if warning := found.get("warning"):
        lines.append(f"last warning: {warning['text']}")
    for other in found["others"]:
        lines += [f"also: {_head({**other, 'dir': found['dir']})}", *_work(other)]
    return "\n".join(lines)


def _head(found: Mapping[str, Any]) -> str:
    if found["state"] == "unknown":
        return f"{found['dir']}: no command has left its state; what log.jsonl says:"
    begun, sign = words.span(found["begun_age"]), words.span(found["sign_age"])
    what = STATES[found["state"]]
    ages = f"begun {begun} ago, last update {sign} ago"
    return f"{found['dir']}: `ctrak {found['command']}` {what} ({ages})"


def _work(found: Mapping[str, Any]) -> list[str]:
    """The stage and its pieces."""
    title, stages = found["part"] or found["stage"], len(found["stages"])
    if found["number"] and stages > 1:
        title = f"stage {found['number']} of {stages}, {title}"
    parts = []
    if found["total"]:
        parts.append(f"{found['done']}/{found['total']}, {found['fraction']:.0%}")
    if found["compiling_for"] is not None:
        parts.append(f"compiling, {found['compiling_for']} s")
    elif found["rate"]:
        left = words.left(Left(found["left"], found["left_is_all"]))
        parts.append(f"{words.rate(found['rate'])}, {left}")
    elif found["total"]:
        parts.append(words.UNKNOWN)
    line = f"{title}: {', '.join(parts)}" if parts else title
    if stages > 1:
        line += f"; {words.in_all(InAll(found['left_in_all'], tuple(found['unknown'])))}"
    lines = [line]
    if found["piece_age"] is not None:
        usual = found["piece_seconds"]
        one = f", one takes {words.span(usual)}" if usual is not None else ""
        lines.append(f"last piece {words.span(found['piece_age'])} ago{one}")
    if found["compiled_seconds"] >= 1:
        lines.append(f"compiled {words.span(found['compiled_seconds'])} so far")
    return lines


def _processes(found: Mapping[str, Any]) -> list[str]:
    lines = []
    for one in found["processes"]:
        amount = f", {one['done']}/{one['total']}" if one["total"] else ""
        where = f"process {one['process']} ({one['host']}, pid {one['pid']})"
        sign = f"last update {words.span(one['sign_age'])} ago"
        lines.append(f"{where}: {one['state']}, {one['part'] or 'no stage'}{amount}, {sign}")
    if missing := found["expected_processes"] - len(lines):
        lines.append(f"{missing} of {found['expected_processes']} processes have left no state")
    return lines


def _stage(line: Mapping[str, Any]) -> str:
    how = "" if line["status"] == "done" else f" ({line['status']})"
    return f"{line['stage']} {words.span(line['seconds'])}{how}"
