"""Which columns of a table or of records are attributes, and which one holds captions.

A column is an attribute if the config names it (``data.condition_on``, ``hold_out``,
``unlabelled``). Of the others, all are but

- captions: ``caption``, else ``text``, in any case of letters;
- what says where a picture came from and not what it shows (``NEVER``);
- where such a column tells that a download tool wrote the records (img2dataset): columns with one
  value, or with more than one value per two pictures;
- columns that fewer than half of the records have;
- values that are lists, objects or null.

Of a table by index all are attributes but the captions: its columns were chosen by hand.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

CAPTIONS = ("caption", "text")
"""Columns of captions; the first that is there counts."""
NEVER = frozenset(
    (
        *("url", "key", "sha256", "sha512", "md5", "hash", "status", "error_message", "exif"),
        *("width", "height", "original_width", "original_height", "__key__", "__url__"),
    )
)
"""What download tools write of a file, in any case of letters."""
DOWNLOADED = frozenset(("url", "sha256", "__url__", "original_width"))
"""Columns of download tools' records alone."""


class Columns(NamedTuple):
    """Attributes and captions by picture; None where a picture has none."""

    attributes: dict[str, list[str | None]]
    captions: list[str | None] | None


def scalar(value: Any) -> bool:
    """Is a value of JSON a text, number or truth value?"""
    return isinstance(value, str | int | float)


def as_text(value: Any) -> str:
    """A text, number or truth value as the text of an attribute."""
    return value if isinstance(value, str) else json.dumps(value)


def line(caption: str) -> str:
    """A caption in one line."""
    return " ".join(caption.split())


def by_column(records: Sequence[Mapping[str, Any] | None]) -> dict[str, list[Any]]:
    """One record per picture (None where there is none) as columns; None where one has no value."""
    names = dict.fromkeys(name for record in records if record for name in record)
    return {name: [record and record.get(name) for record in records] for name in names}


def columns_of(
    table: Mapping[str, Sequence[Any]], records: int, wanted: Collection[str]
) -> Columns:
    """Attributes and captions out of values by column and picture.

    Args:
        records: how many there are; a picture may have none.
        wanted: names that the config mentions.
    """
    caption = caption_column(table, wanted)
    values = {name: _texts(column) for name, column in table.items() if name != caption}
    downloaded = any(name.casefold() in DOWNLOADED for name in table)
    kept = {
        name: column
        for name, column in values.items()
        if any(value is not None for value in column)
        and (name in wanted or _is_attribute(name, column, records, downloaded))
    }
    # An empty caption is none: text tables and records of img2dataset have no other sign for it.
    texts = (
        None if caption is None else [line(text or "") or None for text in _texts(table[caption])]
    )
    return Columns(kept, texts)


def caption_column(names: Collection[str], wanted: Collection[str]) -> str | None:
    """The column that holds captions."""
    found = ((n, name) for n in CAPTIONS for name in names if name.casefold() == n)
    return next((name for _, name in found if name not in wanted), None)


def _is_attribute(name: str, column: Sequence[str | None], records: int, downloaded: bool) -> bool:
    if name.casefold() in (*NEVER, *CAPTIONS):
        return False
    said = [value for value in column if value is not None]
    if 2 * len(said) < records:
        return False
    return not downloaded or 1 < len(set(said)) <= max(2, len(said) // 2)


def _texts(column: Sequence[Any]) -> list[str | None]:
    return [as_text(value) if scalar(value) else None for value in column]
