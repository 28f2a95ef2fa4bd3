"""The checks for people, and for programs."""

from collections.abc import Sequence
from typing import Any

from ctrak_jax.doctor.checks import Check

NAME = 18
"""Columns that a name takes."""


def text(checks: Sequence[Check]) -> str:
    """A line per check in its group; then a line per failure that says what to do."""
    lines, group = [], ""
    for check in checks:
        if check.group != group:
            lines += ["", check.group] if lines else [check.group]
            group = check.group
        lines.append(f"  {check.outcome:<7} {check.name:<{NAME}} {_found(check)}".rstrip())
    failed = [check for check in checks if check.outcome == "failed"]
    lines += ["", _verdict(checks, len(failed))]
    lines += [f"  {check.name}: {check.found}; {check.advice}" for check in failed]
    return "\n".join(lines) + "\n"


def _found(check: Check) -> str:
    """What was found; of a note also the advice, of a self-test the seconds."""
    said = check.found
    if check.outcome == "note" and check.advice:
        said += f"  ({check.advice})"
    if check.group == "self-test":
        said += f", {check.numbers['seconds']:.1f} s"
    return said


def _verdict(checks: Sequence[Check], failed: int) -> str:
    looked = sum(check.outcome != "note" for check in checks)
    return f"{failed} of {looked} checks failed" if failed else f"all {looked} checks passed"


def as_json(checks: Sequence[Check]) -> dict[str, Any]:
    """The same as JSON has it."""
    return {
        "passed": all(check.outcome != "failed" for check in checks),
        "checks": [check._asdict() for check in checks],
    }
