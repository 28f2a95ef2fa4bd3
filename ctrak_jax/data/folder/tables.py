"""Tables as people have them: text with any delimiter, or JSON lines.

Read alike: a byte order mark (UTF-8 or UTF-16), line ends of any system, blank lines, blanks around
values, values in quotation marks, a first line ``sep=;``, empty columns at the right. Cells such as
``NaN`` (``MISSING``) below the first line are empty, but in quotation marks. The delimiter is the
one that finds a column ``file_name`` or ``index`` in the first line.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ctrak_jax.data.folder.columns import as_text
from ctrak_jax.data.reading import decoded, json_object, read_bounded
from ctrak_jax.errors import UsageError

FILE_NAMES = (
    *("file_name", "filename", "file name", "file_path", "filepath", "file", "path"),
    *("image", "image_id", "image_name", "image_path"),
)
"""Names of a column of file names, in any case of letters; the first that is there counts."""
DELIMITERS = (",", ";", "\t", "|")
"""Tried first; then any other sign in the first line, then blanks."""
BLANKS = " "
"""Any number of blanks or tabs between values."""
MISSING = ("NaN", "nan", "NAN", "null", "NULL", "Null", "NA")
"""What pandas, R and databases write for a missing value, without quotation marks."""
EXPECTED = "'index,<attribute>,...' or 'file_name,<attribute>,...'"


class TableRow(NamedTuple):
    """A row.

    Attributes:
        line: in the file.
        key: what it belongs to, a name or an index.
        values: by column.
        counted: what a column ``index`` beside the names says.
    """

    line: int
    key: str
    values: dict[str, Any]
    counted: str = ""


class LabelTable(NamedTuple):
    """A table of labels whose rows are joined by file name, or by index; ``unnamed`` where the
    column of the index has no name, as pandas writes it."""

    file: Path
    key: Literal["file_name", "index"]
    columns: tuple[str, ...]
    rows: list[TableRow]
    unnamed: bool = False


def read_table(file: Path) -> LabelTable:
    """Read a table.

    Raises:
        UsageError: no text, no such columns, or rows that do not fit the header; the message names
            the file and the line.
    """
    text = decoded(read_bounded(file), file)
    found = _json_lines(file, text) if file.suffix.lower() == ".jsonl" else _cells(file, text)
    if not any(found.columns):
        raise UsageError(f"{file}: no column beside {found.key!r}; expected {EXPECTED}.")
    return found


# Text


class TextRow(NamedTuple):
    """A line of text as cells."""

    line: int
    cells: list[str]


def _cells(file: Path, text: str) -> LabelTable:
    delimiter, text, skipped = _delimiter(file, text)
    rows = [
        TextRow(line + skipped, cells) for line, cells in _rows(file, text, delimiter) if any(cells)
    ]
    header, body = rows[0].cells, rows[1:]
    place = _key_place(header)
    if place is None:  # pandas does not name its index
        numbers = body and not header[0] and all(row.cells[0].isdecimal() for row in body)
        place = 0 if len(header) > 1 and numbers else None
    if place is None:
        raise UsageError(f"{file}: the first line must be {EXPECTED}.")
    key = _role(header[place]) or "index"
    width = len(header)
    while width and not header[width - 1]:
        width -= 1
    unnamed = {n for n in range(width) if not header[n]} - {place}
    dropped = {n for n in unnamed if n == 0 or not any(row.cells[n : n + 1] for row in body)}
    if unnamed - dropped:
        raise UsageError(f"{file}: column {min(unnamed - dropped) + 1} has no name; name it.")
    counts = [n for n in range(width) if n != place and _role(header[n]) == "index"]
    keys = {place, *counts}
    columns = {n: header[n] for n in range(width) if n not in keys | dropped}
    twice = [name for name in columns.values() if list(columns.values()).count(name) > 1]
    if twice:
        raise UsageError(f"{file}:1: attribute {twice[0]!r} is given twice; rename or remove one.")
    found = []
    for line, cells in body:
        if len(cells) < width or any(cells[width:]):
            said = f"{key} {cells[place]}" if place < len(cells) else f"no {key}"
            raise UsageError(
                f"{file}:{line}: got {delimiter.join(cells)!r} ({said}), expected {width} values "
                "as in the first line."
            )
        values = {name: cells[n] for n, name in columns.items()}
        found.append(TableRow(line, cells[place], values, cells[counts[0]] if counts else ""))
    return LabelTable(file, key, tuple(columns.values()), found, not header[place])


def is_counted(table: LabelTable) -> bool:
    """Does a table say of its rows which number their picture has?"""
    return table.key == "index" or any(row.counted for row in table.rows)


def keyed_by(table: LabelTable, column: str) -> LabelTable:
    """A table by index as one that names files by another of its columns. The index stays beside
    the names where it has a name of its own."""
    rows = [
        TableRow(
            row.line,
            str(row.values.get(column, "")),
            {name: value for name, value in row.values.items() if name != column},
            "" if table.unnamed else row.key,
        )
        for row in table.rows
    ]
    columns = tuple(name for name in table.columns if name != column)
    return LabelTable(table.file, "file_name", columns, rows)


def _role(header: str) -> Literal["file_name", "index"] | None:
    name = header.casefold()
    if name in FILE_NAMES:
        return "file_name"
    return "index" if name == "index" else None


def _key_place(columns: Sequence[str]) -> int | None:
    """The column that rows are joined by: ``file_name``, else ``index``, else another of file
    names; a table by index may have an attribute that is called like a file."""
    names = [name.casefold() for name in columns]
    keys = (FILE_NAMES[0], "index", *FILE_NAMES[1:])
    return next((names.index(key) for key in keys if key in names), None)


def _delimiter(file: Path, text: str) -> tuple[str, str, int]:
    """The delimiter, the text, and how many of its first lines are left out of it."""
    skipped = 0
    if stated := re.match(r"sep=(.)[ \t]*(?:\r\n|\n|\r)", text):
        text, skipped = text[stated.end() :], 1
    while remark := re.match(r"#.*(?:\r\n|\n|\r)", text):
        text, skipped = text[remark.end() :], skipped + 1
    first = next((line for line in text.splitlines() if line.strip()), "")
    others = [sign for sign in first if not (sign.isalnum() or sign in " _-.'\"")]
    candidates = (stated[1],) if stated else dict.fromkeys((*DELIMITERS, *others, BLANKS))
    for delimiter in candidates:
        try:
            header = next(_rows(file, first, delimiter), TextRow(0, [])).cells
        except UsageError:  # another sign stands behind a quotation mark
            continue
        unnamed = len(header) > 1 and not header[0]
        if any(map(_role, header)) or unnamed:
            return delimiter, text, skipped
    raise UsageError(f"{file}: the first line must be {EXPECTED}.")


def _rows(file: Path, text: str, delimiter: str) -> Iterator[TextRow]:
    """The lines as cells: those in quotation marks as they are, others without blanks around, and
    empty below the header where they are ``MISSING``."""
    blank = {"\t": " *", BLANKS: ""}.get(delimiter, r"[ \t]*")
    signs = r" \t" if delimiter == BLANKS else re.escape(delimiter)
    end_of_cell = rf"([{signs}]{'+' * (delimiter == BLANKS)}|\r\n|\n|\r|\Z)"
    cell = re.compile(
        rf'{blank}"([^"]*(?:""[^"]*)*)"{blank}{end_of_cell}|([^{signs}\r\n]*){end_of_cell}'
    )
    place, line, cells, missing = 0, 1, [], ()
    started = line
    while place < len(text) or cells:
        found = cell.match(text, place)
        assert found is not None
        quoted, end, bare = found[1], found[2] if found[1] is not None else found[4], found[3]
        if quoted is None and bare.lstrip().startswith('"'):
            raise UsageError(f"{file}:{line}: a quotation mark without its counterpart.")
        plain = quoted.replace('""', '"') if quoted is not None else bare.strip()
        cells.append("" if quoted is None and plain in missing else plain)
        place, line = found.end(), line + _line_ends(found[0])
        if end in ("", "\r\n", "\n", "\r"):
            yield TextRow(started, cells)
            missing = MISSING if any(cells) else missing
            cells, started = [], line


def _line_ends(text: str) -> int:
    return text.count("\n") + text.count("\r") - text.count("\r\n")


# JSON lines


def _json_lines(file: Path, text: str) -> LabelTable:
    objects = [
        (number, json_object(line.encode(), f"{file}:{number}", '{"file_name": "0.png"}'))
        for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1)
        if line.strip()
    ]
    names = list(dict.fromkeys(name for _, found in objects for name in found))
    place = _key_place(names)
    if place is None:
        raise UsageError(
            f"{file}: expected lines such as " + '{"file_name": "0.png", "style": "voxel"}.'
        )
    rows, key = [], names[place]
    count = next((name for name in names if name != key and _role(name) == "index"), None)
    for number, found in objects:
        if key not in found or not isinstance(found[key], str | int):
            raise UsageError(f"{file}:{number}: has no {key!r}, which other lines have.")
        values = {
            name: value
            for name, value in found.items()
            if name != key and _role(name) != "index" and as_text(value) is not None
        }
        index = as_text(found.get(count)) if count is not None else None
        rows.append(TableRow(number, str(found[key]), values, index or ""))
    columns = dict.fromkeys(name for row in rows for name in row.values)
    return LabelTable(file, _role(key) or "index", tuple(columns), rows)
