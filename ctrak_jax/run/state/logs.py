"""The lines of ``log.jsonl`` that the stages of a run have left, and what they tell other runs."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

FILE = "log.jsonl"
KINDS = {"stage": str, "status": str, "start": str, "seconds": int | float}
"""What every line has."""
PLACES = ("", "controls/*/", "unnamed/*/")
"""Where the stages of a model write, below its folder."""
OTHERS = 20
"""Earlier runs that are looked at, the last ones."""
APART = ("name:", "out:", "description:")
"""Lines of a config that change nothing that is computed."""
PART_OF = {"ensemble": "score"}
"""Stages of a run that a title names by another word."""


def stage_of(title: str) -> str:
    """The stage of a run that a line's title belongs to."""
    word = title.split()[0] if title else ""
    return PART_OF.get(word, word)


def read_log(out: Path) -> list[dict[str, Any]]:
    """All lines of a run, in the order that they were begun; a line cut short by a kill is left
    out."""
    lines = []
    for seed in ("", "seed-*/"):
        for place in PLACES:
            for file in sorted(out.glob(f"{seed}{place}{FILE}")):
                lines += _lines(file)
    return sorted(lines, key=lambda line: line["start"])


def _lines(file: Path) -> list[dict[str, Any]]:
    found = []
    for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):
            line = json.loads(text)
            if isinstance(line, dict) and all(isinstance(line.get(n), t) for n, t in KINDS.items()):
                found.append(line)
    return found


def seconds_of(lines: Iterable[Mapping[str, Any]], devices: str) -> dict[str, float]:
    """Seconds without compilation of every stage that is done, in the first process; none of a
    stage on other devices or with a line from before compilation was counted."""
    found: dict[str, float] = defaultdict(float)
    done, unfit = set(), set()
    for line in lines:
        stage = stage_of(line["stage"])
        if line.get("process", 0) != 0:
            continue
        if line.get("devices") not in (devices, _one(devices)) or "compile_seconds" not in line:
            unfit.add(stage)
            continue
        found[stage] += line["seconds"] - line["compile_seconds"]
        if line["status"] == "done":
            done.add(stage)
    return {stage: seconds for stage, seconds in found.items() if stage in done - unfit}


def _one(devices: str) -> str:
    """What a stage that uses one device says of the same kind."""
    return f"1 x {devices.partition(' x ')[2]}"


def earlier(out: Path, config: str, devices: str) -> dict[str, float]:
    """Seconds of stages in the last run beside ``out`` that had the same settings and devices.

    Args:
        config: the resolved config, as it is written.
        devices: as a line names them.
    """
    runs = [file for file in out.resolve().parent.glob("*/config.yaml") if file.parent != out]
    runs = sorted(runs, key=lambda file: -file.stat().st_mtime)[:OTHERS]
    for file in runs:
        with suppress(OSError):
            same = _essence(file.read_text(encoding="utf-8")) == _essence(config)
            if same and (found := seconds_of(read_log(file.parent), devices)):
                return found
    return {}


def _essence(config: str) -> list[str]:
    return [line for line in config.splitlines() if not line.startswith(APART)]
