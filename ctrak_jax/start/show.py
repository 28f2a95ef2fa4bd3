"""A proposal for people, and for programs."""

from typing import Any

from ctrak_jax.start.look import Attribute
from ctrak_jax.start.proposal import Proposal
from ctrak_jax.start.write import wrapped

SHOWN = 6
"""Values shown of an attribute."""


def text(proposal: Proposal, file: str) -> str:
    """What is in the folder, what was chosen and why, and how long it takes."""
    facts, selection = proposal.facts, proposal.selection
    sizes = sorted(facts.sizes, key=max)
    shown = [f"{width} x {height}" for width, height in (sizes[0], sizes[-1])]
    said = shown[0] if len(sizes) == 1 else " to ".join(shown)
    lines = [
        f"{facts.folder}: {facts.pictures:,} images, {said} pixels, {len(facts.columns)} "
        f"attributes, {'captions' if facts.captions else 'no captions'}"
    ]
    for column in facts.columns:
        reason = selection.left_out.get(column.name)
        lines += _wrapped(
            f"{column.name}: {values_of(column)}"
            if reason is None
            else f"{column.name} left out: {reason}",
            2,
        )
    lines += ["", "Settings"]
    for choice in proposal.choices:
        lines += _wrapped(f"{choice.setting} = {choice.value}: {choice.why}", 2)
    lines += ["", *_wrapped(proposal.estimate, 0)]
    for note in proposal.notes:
        lines += _wrapped(f"- {note}", 0)
    lines += ["", f"{file} is written. Next:"]
    lines += [f"    {command}" for command in proposal.commands(file)]
    return "\n".join(lines) + "\n"


def values_of(column: Attribute) -> str:
    """The most frequent values with their counts."""
    counts = column.counts
    first = ", ".join(f"{value} {count}" for value, count in list(counts.items())[:SHOWN])
    return f"{len(counts)} values: {first}{', ...' if len(counts) > SHOWN else ''}"


def as_json(proposal: Proposal, file: str) -> dict[str, Any]:
    """The same as JSON has it."""
    facts = proposal.facts
    return {
        "config": file,
        "commands": proposal.commands(file),
        "images": facts.pictures,
        "sizes": [[width, height, count] for (width, height), count in facts.sizes.items()],
        "captions": len(facts.captions),
        "attributes": {column.name: column.counts for column in facts.columns},
        "missing": {column.name: column.missing for column in facts.columns if column.missing},
        "left_out": proposal.selection.left_out,
        "settings": [choice._asdict() for choice in proposal.choices],
        "minutes": proposal.minutes._asdict(),
        "machine": proposal.machine._asdict(),
        "notes": list(proposal.notes),
    }


def _wrapped(paragraph: str, indent: int) -> list[str]:
    start = " " * indent
    return wrapped(paragraph, start, start + "  ")
