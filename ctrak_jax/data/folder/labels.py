"""What each source says of the pictures: tables, lines of captions, files beside, sub-folders.

The sources in their order, ``RANKS``; :mod:`ctrak_jax.data.folder.join` puts them together.
"""

import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ctrak_jax.data.faults import Fault
from ctrak_jax.data.folder.columns import (
    CAPTIONS,
    PARTS,
    TITLE,
    Columns,
    columns_of,
    columns_of_records,
    line,
)
from ctrak_jax.data.folder.listing import Listing
from ctrak_jax.data.folder.names import NameIndex, common_folders, shared
from ctrak_jax.data.folder.tables import FILE_NAMES, LabelTable
from ctrak_jax.data.reading import LARGEST_RECORD, decoded, json_object, read_bounded
from ctrak_jax.errors import UsageError
from ctrak_jax.log import logger

RANKS = ("file_name", "index", "prompts", "sidecars", "folder")
"""Tables that name files; tables by index; lines of captions; what stands beside each picture (or
in a column of Parquet files); sub-folders."""
CLASS = "class"
"""The attribute that sub-folders give."""
CLASSES = (CLASS, "label", "category")
"""Columns of tables that sub-folders may repeat, in any case of letters."""
RECORD = '{"style": "voxel"}'
NUMBERS = re.compile(r"(?:[-+]?\.?\d[-+.\deE]*(?:\s+|$)){4,}")
"""Four numbers or more and nothing else: boxes, as YOLO writes them."""
LONGEST_INDEX = 18
"""Digits."""


class Labels(NamedTuple):
    """What one source says, by picture; None where it says nothing of one.

    Attributes:
        rank: of the source in ``RANKS``.
        source: what a picture lacks that the source says nothing of.
        where: what an error calls the place that speaks of a picture.
        faults: rows and files that belong to no picture.
    """

    rank: int
    source: str
    attributes: dict[str, list[str | None]]
    captions: list[str | None] | None
    where: Callable[[int], str]
    faults: tuple[Fault, ...] = ()


# Tables


def table_labels(
    table: LabelTable,
    names: Sequence[str],
    name: Callable[[int], str],
    wanted: Collection[str],
    folder: str = "",
) -> Labels:
    """A table that names files.

    Args:
        names: of the pictures, see :class:`Listing`.
        folder: of the table below that of the pictures, ending with ``/``.
        name: what an error calls a picture.
        wanted: names that the config mentions.

    Raises:
        UsageError: a row names several pictures, two rows one, or a column ``index`` beside the
            names means another picture.
    """
    index, count = NameIndex(names), len(names)
    common = common_folders([row.key for row in table.rows])
    places = [_number(row.counted) for row in table.rows]
    counted = None not in places
    rows: list[Any] = [None] * count
    lines: list[int] = [0] * count
    faults = []
    for (number, key, values, _), said in zip(table.rows, places, strict=True):
        found = index.find(key, folder, common)
        place = f"{table.file}:{number}"
        if len(found) > 1:
            raise UsageError(
                f"{place}: {key!r} may be {name(found[0])} or {name(found[1])}; write the folder, "
                "too."
            )
        if not found:
            faults.append(
                Fault(place, f"names {key!r}, and there is no such picture", "incomplete")
            )
            continue
        if rows[found[0]] is not None:
            raise UsageError(f"{place}: {key!r} stands in line {lines[found[0]]}, too; remove one.")
        if counted and said != found[0]:
            raise UsageError(
                f"{place}: the index {said} and the name {key!r} are different pictures, by its "
                f"name it is number {found[0]}; remove one of the two columns."
            )
        rows[found[0]], lines[found[0]] = values, number
    attributes, captions = columns_of_records(rows, wanted)
    return Labels(
        RANKS.index("file_name"),
        f"row in {table.file}",
        attributes,
        captions,
        lambda row: f"{table.file}:{lines[row]}",
        tuple(faults),
    )


NAME_COLUMNS = (*FILE_NAMES, "name", "id", "key")
"""Columns that may name pictures by numbers alone; others do so by text."""


def naming_column(table: LabelTable, names: Sequence[str], wanted: Collection[str]) -> str | None:
    """The column of a table by index that names pictures, if any: more than half of its rows have a
    picture's name of their own there.

    Args:
        names: of the pictures.
        wanted: names that the config mentions, which are attributes.
    """
    index = None
    for column in table.columns:
        values = {str(row.values.get(column, "")) for row in table.rows}
        numbers = all(map(str.isdecimal, values)) and column.casefold() not in NAME_COLUMNS
        if column in wanted or numbers or 2 * len(values) <= len(table.rows):
            continue
        common, index = common_folders([*values]), index or NameIndex(names)
        if 2 * sum(bool(index.find(value, "", common)) for value in values) > len(table.rows):
            return column
    return None


def index_labels(
    table: LabelTable, count: int, name: Callable[[int], str], wanted: Collection[str]
) -> Labels:
    """A table by index: row i belongs to the i-th picture.

    Raises:
        UsageError: an index is none or stands there twice, or there are more or fewer than
            pictures, so that which row belongs to which is uncertain.
    """
    rows: list[Any] = [None] * count
    lines: list[int] = [0] * count
    repeated: list[tuple[int, int]] = []
    for number, key, values, _ in table.rows:
        place = f"{table.file}:{number}"
        row = _number(key)
        if row is None:
            raise UsageError(f"{place}: got the index {key[:40]!r}, expected a number from 0.")
        if row >= count:
            from_one = row == count == len(table.rows)
            hint = " (indices count from 0)" if from_one else ""
            raise UsageError(
                f"{place}: index {row}, but the images are 0 to {count - 1}: {len(table.rows)} "
                f"rows for {count} images; there must be one row per image{hint}."
            )
        if rows[row] is not None:
            repeated.append((lines[row], row))
            continue
        rows[row], lines[row] = values, number
    missing = [row for row in range(count) if rows[row] is None]
    if repeated:
        line_number, row = repeated[0]
        lacking = f"; index {missing[0]} is missing" if missing else ""
        raise UsageError(
            f"{table.file}:{line_number}: index {row} is given twice{lacking}; correct it."
        )
    if missing and missing[-1] == count - 1:
        raise UsageError(
            f"{table.file}: {len(table.rows)} rows for {count} images; there must be one row per "
            f"image, and {name(missing[0])} has none."
        )
    attributes, captions = columns_of_records(rows, {*wanted, *chosen_columns(table)})
    return Labels(
        RANKS.index("index"),
        f"row in {table.file}",
        attributes,
        captions,
        lambda row: f"{table.file}:{lines[row]}",
    )


def _number(index: str) -> int | None:
    """An index as a number, 3.0 as 3; None of what is none."""
    whole = index.partition(".")[0] if index.rstrip("0").endswith(".") else index
    return int(whole) if whole.isdecimal() and len(whole) <= LONGEST_INDEX else None


def chosen_columns(table: LabelTable) -> set[str]:
    """The attributes of a table by index: every column but the captions."""
    return {column for column in table.columns if column.casefold() not in (*CAPTIONS, TITLE)}


# Lines of captions


def prompt_labels(file: Path, count: int) -> Labels:
    """A caption per line, in the order of the pictures.

    Raises:
        UsageError: there are more or fewer lines than pictures.
    """
    lines = decoded(read_bounded(file), file).removesuffix("\n").split("\n")
    prompts = [text.removesuffix("\r") for text in lines]  # other signs may be in a caption
    while len(prompts) > count and not prompts[-1]:
        prompts.pop()
    if len(prompts) != count:
        raise UsageError(
            f"{file}: {len(prompts)} lines for {count} images; there must be one line per image."
        )
    return Labels(
        RANKS.index("prompts"),
        f"line in {file}",
        {},
        list(prompts),
        lambda row: f"{file}:{row + 1}",
    )


# Beside each picture


def sidecar_labels(listing: Listing, wanted: Collection[str]) -> list[Labels]:
    """The .txt, .caption, .json and .cls files beside pictures, and columns of Parquet files."""
    if listing.table is not None:
        attributes, captions = columns_of(listing.table, len(listing.encoded), wanted)
        rank, name = RANKS.index("sidecars"), listing.encoded.name
        return [Labels(rank, "value in its row", attributes, captions, name)]
    records = _sidecar_values(listing, ".json", lambda data, name: json_object(data, name, RECORD))
    found = [_labels_of_sidecars(records, columns_of_records(records.values, wanted))]
    classes = _sidecar_values(listing, ".cls", lambda data, name: line(decoded(data, name)) or None)
    said = {CLASS: classes.values} if any(classes.values) else {}
    found.append(_labels_of_sidecars(classes, Columns(said, None)))
    several: list[Any] = []
    for suffix in (".txt", ".caption"):
        texts = _sidecar_values(listing, suffix, lambda data, name: _caption(data, name, several))
        found.append(_labels_of_sidecars(texts, Columns({}, texts.values)))
    if several:
        text = "%d captions have several lines, which are joined, the first: %s"
        logger.warning(text, len(several), several[0])
    return found


def _caption(data: bytes, file: Any, several: list[Any]) -> str | None:
    """The text of a file as a caption; none where it is empty, as img2dataset writes it.

    Args:
        several: collects the files of several lines.
    """
    text = decoded(data, file).strip()
    if NUMBERS.fullmatch(text):
        raise UsageError(
            f"{file}: holds numbers, perhaps of boxes, and no caption; move such files away."
        )
    if "\n" in text:
        several.append(file)
    return line(text) or None


class SidecarValues(NamedTuple):
    """What the files of one suffix hold, by picture."""

    suffix: str
    values: list[Any]
    places: list[str]
    faults: tuple[Fault, ...]


def _sidecar_values(
    listing: Listing, suffix: str, read: Callable[[bytes, Any], Any]
) -> SidecarValues:
    values: list[Any] = []
    places: list[str] = []
    used: set[str] = set()
    for picture in listing.names or ():
        name = listing.sidecars.find(picture, suffix)
        file = None if name is None else listing.sidecars.read(name)
        values.append(None if file is None else read(_bytes(file), file))
        places.append(str(file))
        used |= set() if name is None else {name}
    others = listing.sidecars.others(used, suffix)
    return SidecarValues(
        suffix,
        values,
        places,
        tuple(Fault(str(file), "has no picture beside it", "incomplete") for file in others),
    )


def _bytes(file: Any) -> bytes:
    if isinstance(file, Path):
        return read_bounded(file, LARGEST_RECORD)
    if file.size > LARGEST_RECORD:
        raise UsageError(f"{file}: larger than {LARGEST_RECORD:,} bytes; no caption or record.")
    return file.read_bytes()


def _labels_of_sidecars(found: SidecarValues, columns: Columns) -> Labels:
    said = any(value is not None for value in found.values)
    return Labels(
        RANKS.index("sidecars"),
        f"{found.suffix} beside it",
        columns.attributes,
        columns.captions if said else None,
        found.places.__getitem__,
        found.faults,
    )


# Sub-folders


def folder_labels(listing: Listing) -> Labels | None:
    """The sub-folders as a class, which is said; None where there are none."""
    values = _folder_values(listing)
    if values is None:
        return None
    row = next(row for row, value in enumerate(values) if value is not None)
    text = "the attribute class is the name of a sub-folder: %r of %s"
    logger.info(text, values[row], listing.encoded.name(row))
    return Labels(RANKS.index("folder"), "sub-folder", {CLASS: values}, None, listing.encoded.name)


def agreeing_folders(listing: Listing, tables: Sequence[Labels]) -> list[Labels]:
    """The sub-folders as the values of a column of classes that has the same ones, in its
    spelling: what differs is a conflict."""
    values = _folder_values(listing)
    folders = {value.casefold() for value in values or () if value is not None}
    found = []
    for labels in tables if folders else ():
        for column in (name for name in labels.attributes if name.casefold() in CLASSES):
            known = {v.casefold(): v for v in labels.attributes[column] if v is not None}
            if folders <= known.keys() or known.keys() <= folders:
                spelled = [value and known.get(value.casefold(), value) for value in values or ()]
                repeated = {column: spelled}
                rank, name = RANKS.index("folder"), listing.encoded.name
                found.append(Labels(rank, "sub-folder", repeated, None, name))
    return found


def _folder_values(listing: Listing) -> list[str | None] | None:
    """The first level of sub-folders in which pictures differ, without levels that are parts of the
    data (``train``, ``test``); None where there is none."""
    rest = [folder.split("/") if folder else [] for folder in listing.folders]
    level: set[str] = set()
    values: list[str | None] = []
    while level <= PARTS and any(rest):
        common = shared(rest)
        rest = [parts[common:] for parts in rest]
        level = {parts[0].casefold() for parts in rest if parts}
        values = [parts[0] if parts else None for parts in rest]
        rest = [parts[1:] for parts in rest]
    return None if level <= PARTS else values
