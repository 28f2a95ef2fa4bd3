"""All sources put together, picture by picture.

Attributes are those of the first source in the order of ``RANKS`` that has any, and what the config
names of the others; captions come from the first source that has one of the picture. Where another
source says something else of a picture, the two conflict. A picture is incomplete that lacks an
attribute, or a caption where any picture has one. Where the config names attributes, others that a
complete picture lacks are no attributes, and kept apart.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from ctrak_jax.data.faults import Fault
from ctrak_jax.data.folder.columns import line
from ctrak_jax.data.folder.labels import Labels

Values = list[str | None]


class Joined(NamedTuple):
    """Attributes and captions by picture, None where a picture has none; what is wrong; and further
    columns, which complete pictures lack."""

    attributes: dict[str, Values]
    captions: Values | None
    faults: list[Fault]
    partial: dict[str, Values]


class Statement(NamedTuple):
    """What one source says of one attribute, or its captions."""

    labels: Labels
    values: Values


def join(
    sources: Sequence[Labels], count: int, name: Callable[[int], str], wanted: Collection[str]
) -> Joined:
    """Put sources together.

    Args:
        sources: in any order.
        count: of pictures.
        name: what an error calls a picture.
        wanted: names that the config mentions.
    """
    ordered = sorted(sources, key=lambda labels: labels.rank)
    faults = [fault for labels in ordered for fault in labels.faults]
    first = next((labels.rank for labels in ordered if labels.attributes), None)
    fields = dict.fromkeys(
        field
        for labels in ordered
        for field in labels.attributes
        if labels.rank == first or field in wanted
    )
    attributes: dict[str, Values] = {}
    lacking: dict[int, list[str]] = {}
    for field in fields:
        said = [Statement(s, s.attributes[field]) for s in ordered if field in s.attributes]
        attributes[field] = _merged(said, count)
        faults += _conflicts(said, name, repr(field), str)
        if not wanted or field in wanted:
            _collect(lacking, attributes[field], said, repr(field))
    said = [Statement(s, s.captions) for s in ordered if s.captions is not None]
    captions = _merged(said, count) if said else None
    if captions is not None and all(text is None for text in captions):
        captions = None
    if captions is not None:
        faults += _conflicts(said, name, "the caption", line)
        _collect(lacking, captions, said, "caption")
    partial = {
        field: values
        for field, values in attributes.items()
        if any(value is None and row not in lacking for row, value in enumerate(values))
    }
    attributes = {field: v for field, v in attributes.items() if field not in partial}
    faults += [
        Fault(name(row), f"has no {'; no '.join(lacking[row])}", "incomplete", row)
        for row in sorted(lacking)
    ]
    return Joined(attributes, captions, faults, partial)


def _merged(said: Sequence[Statement], count: int) -> Values:
    """By picture, what the first source says that says anything."""
    found: Values = [None] * count
    for _, values in reversed(said):
        found = [old if new is None else new for old, new in zip(found, values, strict=True)]
    return found


def _conflicts(
    said: Sequence[Statement], name: Callable[[int], str], what: str, form: Callable[[str], str]
) -> list[Fault]:
    """Pictures of which two sources say different things."""
    found = []
    for place, (labels, values) in enumerate(said):
        for other, others in said[place + 1 :]:
            for row, (mine, theirs) in enumerate(zip(values, others, strict=True)):
                if mine is None or theirs is None or form(mine) == form(theirs):
                    continue
                reason = (
                    f"{what} is {mine!r} in {labels.where(row)} and {theirs!r} in "
                    f"{other.where(row)}"
                )
                found.append(Fault(name(row), reason, "conflict", row))
    return found


def _collect(
    lacking: dict[int, list[str]], values: Values, said: Sequence[Statement], what: str
) -> None:
    """Note which pictures have no value, and where it was looked for."""
    missing = [row for row, value in enumerate(values) if value is None]
    if not missing:
        return
    have = len(values) - len(missing)
    sources = " or ".join(dict.fromkeys(s.labels.source for s in said))
    for row in missing:
        note = f"{what}, which {have:,} others have by a {sources}"
        lacking.setdefault(row, []).append(note)
