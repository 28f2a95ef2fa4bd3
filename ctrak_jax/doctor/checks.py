"""One thing looked at, and what came of it."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

Outcome = Literal["ok", "note", "failed"]


class Check(NamedTuple):
    """One thing looked at.

    Attributes:
        group: the part of the page that it stands in.
        found: what was found, in words.
        advice: what to do, where it failed or where something can be added.
        numbers: what was measured.
    """

    group: str
    name: str
    outcome: Outcome
    found: str
    advice: str = ""
    numbers: Mapping[str, Any] = {}


def tried(group: str, name: str, advice: str, look: Callable[[], Check]) -> Check:
    """A check whose code may raise whatever a broken installation raises: then it has failed.
    ``seconds`` is among its numbers."""
    start = time.monotonic()
    try:
        check = look()
    except Exception as error:
        reason = str(error).partition("\n")[0]
        check = Check(group, name, "failed", f"{type(error).__name__}: {reason}", advice)
    seconds = round(time.monotonic() - start, 2)
    return check._replace(numbers={**check.numbers, "seconds": seconds})
