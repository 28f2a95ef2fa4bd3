"""Which columns of a table or of records are attributes, and which one holds captions.

A column is an attribute if the config names it (``data.condition_on``, ``hold_out``,
``unlabelled``). Of the others, all are but

- captions: the first of ``CAPTIONS`` that is there, in any case of letters, or a ``TITLE`` of which
  more than half of the pictures have one of their own;
- what says where a picture came from and not what it shows (``NO_ATTRIBUTES``);
- where such a column tells that a download tool wrote the records (img2dataset): columns with one
  value, or with more than one value per two pictures;
- columns that fewer than half of the records have;
- columns without any value.

Of a table by index all are attributes but the captions: its columns were chosen by hand. A value is
missing where :func:`as_text` finds none: lists, objects, null, NaN, and cells without a letter.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

CAPTIONS = ("caption", "text", "prompt", "description")
"""Columns of captions; the first that is there counts."""
TITLE = "title"
"""A column of captions where few pictures share one: else a form of address, or a series."""
NO_ATTRIBUTES = frozenset(
    (
        *("url", "key", "sha256", "sha512", "md5", "hash", "status", "error_message", "exif"),
        *("width", "height", "original_width", "original_height", "__key__", "__url__"),
    )
)
"""What download tools write of a file, in any case of letters."""
PARTS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev"}
"""Values that name a part of the data, and nothing that a picture shows."""
DOWNLOADED = frozenset(("url", "sha256", "__url__", "original_width"))
"""Columns of download tools' records alone."""


class Columns(NamedTuple):
    """Attributes and captions by picture; None where a picture has none."""

    attributes: dict[str, list[str | None]]
    captions: list[str | None] | None


def as_text(value: Any) -> str | None:
    """A text, number or truth value as the text of an attribute, 1.0 as 1; None where a value is
    missing."""
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    is_known = isinstance(value, int | float) and value == value  # NaN is not
    return json.dumps(value) if is_known else None


def line(caption: str) -> str:
    """A caption in one line."""
    return " ".join(caption.split())


def columns_of_records(
    records: Sequence[Mapping[str, Any] | None], wanted: Collection[str]
) -> Columns:
    """Attributes and captions out of one record per picture, None where there is none."""
    names = dict.fromkeys(name for record in records if record for name in record)
    table = {name: [record and record.get(name) for record in records] for name in names}
    return columns_of(table, sum(record is not None for record in records), wanted)


def columns_of(
    table: Mapping[str, Sequence[Any]], records: int, wanted: Collection[str]
) -> Columns:
    """Attributes and captions out of values by column and picture.

    Args:
        records: how many pictures have one.
        wanted: names that the config mentions.
    """
    caption = caption_column(table, wanted)
    values = {name: list(map(as_text, column)) for name, column in table.items() if name != caption}
    downloaded = any(name.casefold() in DOWNLOADED for name in table)
    kept = {
        name: column
        for name, column in values.items()
        if any(value is not None for value in column)
        and (name in wanted or _is_attribute(name, column, records, downloaded))
    }
    if caption is None:
        return Columns(kept, None)
    texts = map(as_text, table[caption])
    return Columns(kept, [None if text is None else line(text) for text in texts])


def caption_column(table: Mapping[str, Sequence[Any]], wanted: Collection[str]) -> str | None:
    """The column that holds captions."""
    names = [name for name in table if name not in wanted]
    found = [name for n in CAPTIONS for name in names if name.casefold() == n]
    found += [name for name in names if name.casefold() == TITLE and _mostly_differ(table[name])]
    return next(iter(found), None)


def _mostly_differ(column: Sequence[Any]) -> bool:
    said = [text for value in column if (text := as_text(value)) is not None]
    return 2 * len(set(said)) > len(said)


def _is_attribute(name: str, column: Sequence[str | None], records: int, downloaded: bool) -> bool:
    if name.casefold() in (*NO_ATTRIBUTES, *CAPTIONS):
        return False
    said = [value for value in column if value is not None]
    if 2 * len(said) < records:
        return False
    return not downloaded or 1 < len(set(said)) <= max(2, len(said) // 2)
