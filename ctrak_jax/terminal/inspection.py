"""What ``ctrak data check`` found, for people and for programs."""

from collections.abc import Sequence
from typing import Any

from ctrak_jax.data.inspection import Inspection
from ctrak_jax.terminal.table import text_table

SHOWN = 40
"""Faults shown; the file has all of them."""
VALUES = 8
"""Values shown of an attribute."""


def text(found: Inspection, remarks: Sequence[str] = ()) -> str:
    """A line for each thing that is there, remarks, then a table of faults."""
    lines = [f"{found.pictures:,} images, {_sizes(found)}"]
    lines += [f"  {count:,} {kind}" for kind, count in found.kinds.items() if count]
    for name, counts in found.attributes.items():
        first = ", ".join(f"{value} {count:,}" for value, count in counts.most_common(VALUES))
        more = ", ..." if len(counts) > VALUES else ""
        lines.append(f"  {name}: {len(counts):,} values: {first}{more}")
    if found.captions:
        number, longest = len(found.captions), max(map(len, found.captions))
        lines.append(f"  {number:,} captions, the longest of {longest:,} characters")
    lines += [f"  {remark}" for remark in remarks]
    if not found.faults:
        return "\n".join([*lines, "no fault"])
    rows = [(fault.kind, fault.name, fault.reason) for fault in found.faults[:SHOWN]]
    more = len(found.faults) - len(rows)
    below = [("", "...", f"{more:,} more")] if more else []
    return (
        "\n".join(lines) + "\n" + text_table("faults", ("kind", "where", "what"), (), rows, below)
    )


def as_json(found: Inspection) -> dict[str, Any]:
    """The same as JSON has it, with all faults."""
    return {
        "pictures": found.pictures,
        "sizes": [[width, height, count] for (width, height), count in found.sizes.items()],
        "kinds": found.kinds,
        "attributes": {name: dict(counts) for name, counts in found.attributes.items()},
        "captions": len(found.captions),
        "unfound_words": [words._asdict() for words in found.unfound],
        "faults": [
            {"kind": fault.kind, "name": fault.name, "reason": fault.reason}
            for fault in found.faults
        ],
    }


def _sizes(found: Inspection) -> str:
    sizes = sorted(found.sizes, key=max)
    if not sizes:
        return "none readable"
    shown = [f"{width} x {height}" for width, height in (sizes[0], sizes[-1])]
    return f"{shown[0] if len(sizes) == 1 else ' to '.join(shown)} pixels"
