"""What is wrong with one picture or one row of a data set."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from ctrak_jax.errors import UsageError
from ctrak_jax.store.files import write_atomically


class Fault(NamedTuple):
    """A fault of a data set, and what may be done about it.

    Attributes:
        name: the picture, or the file and line.
        reason: what is wrong with it, without a full stop.
        kind: ``incomplete`` (a picture, row or caption without its counterpart) and ``picture``
            (unreadable) may be skipped; a ``conflict`` of two sources and another ``size`` than the
            first picture's may not. An ``unread`` file is a fault of ``ctrak data check`` alone.
        row: the picture's place in the data set; None for a row of a table, or a file.
    """

    name: str
    reason: str
    kind: Literal["incomplete", "picture", "conflict", "size", "unread"]
    row: int | None = None


ADVICE = {
    "incomplete": "complete it, or leave such samples out by data.incomplete: skip",
    "picture": "replace it, or leave such pictures out by data.bad_pictures: skip",
    "conflict": "correct one of them",
    "size": "give all one size, or crop and resize them by data.resize: true and data.image_size",
    "unread": "give it a name that is read (docs/reference/data.md), or move it out of data.path",
}


def refuse(faults: Sequence[Fault]) -> None:
    """Raise the first of the faults, with the number of further ones of its kind.

    Raises:
        UsageError: there is a fault.
    """
    if not faults:
        return
    first = faults[0]
    more = sum(fault.kind == first.kind for fault in faults) - 1
    others = f" ({more:,} more like it: ctrak data check)" if more else ""
    raise UsageError(f"{first.name}: {first.reason}{others}; {ADVICE[first.kind]}.")


def write_faults(file: Path, faults: Sequence[Fault]) -> None:
    """Faults as a table: kind, name, reason."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(
        [("kind", "name", "reason"), *((fault.kind, fault.name, fault.reason) for fault in faults)]
    )
    write_atomically(file, text.getvalue().encode("utf-8", "backslashreplace"))
