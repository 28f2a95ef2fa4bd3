"""Pictures in Parquet files, read where they are.

A file has a column ``image`` (encoded bytes, or a struct with the field ``bytes``), optionally
``caption`` or ``text``, and its other columns of text, integers or truth values are attributes.
What opening reads is the index and the labels.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ctrak_jax.data.folder.shards import Shards, as_text, line
from ctrak_jax.errors import UsageError

CACHED_ROW_GROUPS = 4
"""Row groups of Parquet files kept in memory: batches in order come out of one or two."""
CAPTIONS = ("caption", "text")
"""Columns of Parquet files that may hold captions; the first that is found counts."""


class RowGroup(NamedTuple):
    """A part of a Parquet file that is read as a whole; ``first`` is its first row in the set."""

    file: Path
    number: int
    first: int


class ParquetPictures:
    """Pictures in the column ``image`` of Parquet files."""

    def __init__(self, groups: Sequence[RowGroup], rows: int) -> None:
        self._groups, self._rows = groups, rows
        self._firsts = [group.first for group in groups]
        self._column = lru_cache(CACHED_ROW_GROUPS)(self._read_column)

    def __len__(self) -> int:
        return self._rows

    def name(self, row: int) -> str:
        group = self._groups[bisect_right(self._firsts, row) - 1]
        return f"{group.file}: row {row - group.first} of row group {group.number}"

    def read(self, row: int) -> bytes:
        place = bisect_right(self._firsts, row) - 1
        value = self._column(place)[row - self._groups[place].first].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None:
            raise UsageError(f"{self.name(row)}: holds no image bytes.")
        return data

    def _read_column(self, place: int) -> Any:
        group = self._groups[place]
        with _parquet(group.file) as file:
            return file.read_row_group(group.number, columns=["image"]).column("image")


def read_parquet(files: Sequence[Path], *, labels: bool, captions: bool) -> Shards:
    """The index and the labels of Parquet files, in the given order; as :func:`read_tars`.

    Raises:
        UsageError: pyarrow is not installed; a file is damaged, has no column ``image`` of bytes or
            lacks a column of the first one; there is no row; an attribute or caption is null.
    """
    tables: list[tuple[Path, Any]] = []
    groups: list[RowGroup] = []
    rows = 0
    chosen: list[str] = []
    for path in files:
        with _parquet(path) as file:
            found = _label_columns(path, file.schema_arrow)
            found = [name for name in found if (captions if name in CAPTIONS else labels)]
            chosen = chosen if tables else found
            lacking = [name for name in chosen if name not in found]
            if lacking:
                raise UsageError(
                    f"{path}: no column {lacking[0]!r} like that of {files[0]}; every file must "
                    "have the same columns."
                )
            tables.append((path, file.read(columns=chosen)))
            for number in range(file.num_row_groups):
                groups.append(RowGroup(path, number, rows))
                rows += file.metadata.row_group(number).num_rows
    if not rows:
        raise UsageError(f"{files[0].parent}: its .parquet files hold no row.")
    columns = {name: _texts(tables, name) for name in chosen}
    caption = next((name for name in CAPTIONS if name in columns), None)
    prompts = () if caption is None else tuple(map(line, columns[caption]))
    attributes = {name: c for name, c in columns.items() if name not in CAPTIONS}
    return Shards(ParquetPictures(groups, rows), attributes, prompts)


def _label_columns(path: Path, schema: Any) -> list[str]:
    """The columns that are text, integers or truth values, after a look at the images' column."""
    from pyarrow import types

    kinds = dict(zip(schema.names, schema.types, strict=True))
    image = kinds.get("image")
    if image is not None and types.is_struct(image):
        image = next((field.type for field in image if field.name == "bytes"), None)
    if image is None or not (types.is_binary(image) or types.is_large_binary(image)):
        raise UsageError(
            f"{path}: has the columns {kinds}, expected 'image' of encoded pictures (binary, or a "
            "struct with 'bytes'); rename or convert it."
        )
    tests = (types.is_string, types.is_large_string, types.is_integer, types.is_boolean)
    return [name for name, kind in kinds.items() if any(test(kind) for test in tests)]


def _texts(tables: Sequence[tuple[Path, Any]], name: str) -> tuple[str, ...]:
    """A column of every file, one after the other, as text."""
    found: list[str] = []
    for path, table in tables:
        column = table.column(name).to_pylist()
        if None in column:
            raise UsageError(
                f"{path}: column {name!r} is null in row {column.index(None)}; every row must have "
                "a value."
            )
        found += map(as_text, column)
    return tuple(found)


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    """An open Parquet file; what goes wrong with it is one clear line."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UsageError(
            f"{path}: reading Parquet files needs pyarrow, which is not installed; run "
            "pip install 'ctrak-jax[parquet]'."
        ) from None
    try:
        with ParquetFile(path) as file:
            yield file
    except (ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{path}: not a readable Parquet file ({reason}).") from None
