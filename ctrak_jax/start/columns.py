"""Which attributes a model can be conditioned on, and why not the others."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from ctrak_jax.data.folder.columns import PARTS
from ctrak_jax.prompts import words_of
from ctrak_jax.start.look import Attribute

FREQUENT = 10
"""Images that must carry a value before it counts: precision@10 cannot reach 1 with fewer."""
COVERED = 0.9
"""Share of the images whose value must be frequent."""
MOST_VALUES = 50
"""Beyond, a small model mixes the values up; 22 and 20 were learnt (avatars, photographs)."""
MORE_VALUES = 200
"""Accepted where no attribute has fewer."""
MOST_NUMBERS = 20
"""Different numbers beyond which a column is a measurement and no class."""
MOST_MISSING = 0.1
"""Share of empty cells beyond which an attribute is left out."""
MOST_ATTRIBUTES = 8
"""Attributes asked about: each is a question per image asked about."""


class Selected(NamedTuple):
    """The attributes chosen, those left out with the reason, and what to know of the chosen."""

    chosen: tuple[Attribute, ...]
    left_out: dict[str, str]
    remarks: tuple[str, ...]


def select(columns: Sequence[Attribute]) -> Selected:
    """The attributes that a model can be conditioned on, in the order of the table."""
    reasons = {column.name: unfit(column, MOST_VALUES) for column in columns}
    if columns and all(reasons.values()):  # better many values than none
        reasons |= {column.name: unfit(column, MORE_VALUES) for column in columns}
    kept: list[Attribute] = []
    for column in columns:
        if reasons[column.name] is None:
            reasons[column.name] = same_as(column, kept)
        if reasons[column.name] is None:
            kept.append(column)
    ranked = sorted(kept, key=evenness, reverse=True)
    for column in ranked[MOST_ATTRIBUTES:]:
        reasons[column.name] = (
            f"{len(kept)} attributes suit, and the {MOST_ATTRIBUTES} with the most evenly spread "
            "values are taken; add it in place of another"
        )
    chosen = tuple(column for column in columns if reasons[column.name] is None)
    remarks = tuple(remark for column in chosen for remark in remarks_on(column))
    left_out = {name: reason for name, reason in reasons.items() if reason is not None}
    return Selected(chosen, left_out, remarks)


def named_in_captions(selection: Selected, captions: Sequence[str]) -> Selected:
    """The attributes that a model of captions can be asked about.

    All, where every combination has a caption, which says what another value would read like; else
    those whose values stand in the captions.
    """
    chosen = selection.chosen
    first: dict[tuple[str, ...], str] = {}
    for *values, caption in zip(*(column.values for column in chosen), captions, strict=True):
        if all(values):
            first.setdefault(tuple(values), caption)
    if len(first) == math.prod(len(column.counts) for column in chosen):
        return selection
    silent = {
        column.name: f"the captions of {column.name}={values[place]} do not name it"
        for place, column in enumerate(chosen)
        for values, caption in first.items()
        if words_of(column.name, values[place], caption) is None
    }
    return selection._replace(
        chosen=tuple(column for column in chosen if column.name not in silent),
        left_out=selection.left_out | silent,
    )


def unfit(column: Attribute, most_values: int) -> str | None:
    """Why an attribute alone does not suit, or None."""
    counts, total = column.counts, len(column.values)
    if column.missing > MOST_MISSING * total:
        return f"empty for {column.missing} of {total} images"
    if len(counts) < 2:
        return f"the same for all images: {next(iter(counts), '')!r}"
    if {value.lower() for value in counts} <= PARTS:
        return "names parts of the data, nothing that a picture shows"
    if len(counts) > total / 2:
        advice = "; name it caption if it says what each image shows"
        said = advice if any(len(value.split()) > 2 for value in counts) else ""
        return f"{len(counts)} values of {total} images: a name or number of each, no class{said}"
    if len(counts) > MOST_NUMBERS and all(map(is_number, counts)):
        return f"{len(counts)} different numbers; put classes of them, such as low and high, there"
    if len(counts) > most_values:
        return f"{len(counts)} values, more than {most_values}"
    frequent = sum(count for count in counts.values() if count >= FREQUENT)
    if frequent < COVERED * sum(counts.values()) or list(counts.values())[1] < FREQUENT:
        return f"too rare: {frequent} of {total} images carry a value that {FREQUENT} images have"
    return None


def same_as(column: Attribute, others: Sequence[Attribute]) -> str | None:
    """Says the column what another one says, by other words?"""
    for other in others:
        pairs = len(set(zip(column.values, other.values, strict=True)))
        if pairs == len(set(column.values)) == len(set(other.values)):
            return f"says the same as {other.name}"
    return None


def remarks_on(column: Attribute) -> list[str]:
    """What to know of a chosen attribute."""
    rare = {value: count for value, count in column.counts.items() if count < FREQUENT}
    found = []
    if rare:
        few = ", ".join(f"{value} ({count})" for value, count in list(rare.items())[:5])
        found.append(
            f"{column.name}: {len(rare)} rare values such as {few}; fewer than {FREQUENT} images "
            "carry one, so answers about it stay below a precision of 1"
        )
    if column.missing:
        found.append(
            f"{column.name}: {column.missing} empty cells; images without a value are left out, so "
            "fill them in"
        )
    return found


def evenness(column: Attribute) -> float:
    """Entropy of the values in bits."""
    counts = list(column.counts.values())
    return -sum(n / sum(counts) * math.log2(n / sum(counts)) for n in counts)


def is_number(text: str) -> bool:
    """Does a value read as a number?"""
    try:
        float(text)
    except ValueError:
        return False
    return True
