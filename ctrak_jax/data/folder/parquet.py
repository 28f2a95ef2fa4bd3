"""Pictures in Parquet files, read where they are.

A file has a column ``image`` (encoded bytes, or a struct with the field ``bytes``); of its other
columns those of text, numbers, truth values or pandas' categories are read; the log names the
others. What opening reads is the index and them.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ctrak_jax.data.reading import read_error
from ctrak_jax.errors import UsageError, pip_install
from ctrak_jax.log import logger

CACHED_ROW_GROUPS = 4
"""Row groups of Parquet files kept in memory: batches in order come out of one or two."""


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

    def file(self, row: int) -> Path:
        return self._groups[bisect_right(self._firsts, row) - 1].file

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


class ParquetSet(NamedTuple):
    """Parquet files: their pictures, and the values of their other columns by row."""

    encoded: ParquetPictures
    table: dict[str, list[Any]]


def read_parquet(files: Sequence[Path]) -> ParquetSet:
    """The index and the labels of Parquet files, in the given order.

    Raises:
        UsageError: pyarrow is not installed; a file is damaged, has no column ``image`` of bytes or
            lacks a column of the first one; there is no row.
    """
    groups: list[RowGroup] = []
    rows = 0
    columns: dict[str, list[Any]] = {}
    for path in files:
        with _parquet(path) as file:
            found = _label_columns(path, file.schema_arrow)
            if not groups:
                columns = {name: [] for name in found}
                _say_dropped(path, [n for n in file.schema_arrow.names if n not in columns])
            lacking = [name for name in columns if name not in found]
            if lacking:
                raise UsageError(
                    f"{path}: no column {lacking[0]!r} like that of {files[0]}; every file must "
                    "have the same columns."
                )
            table = file.read(columns=list(columns))
            for name, values in columns.items():
                values += table.column(name).to_pylist()
            for number in range(file.num_row_groups):
                groups.append(RowGroup(path, number, rows))
                rows += file.metadata.row_group(number).num_rows
    if not rows:
        raise UsageError(f"{files[0].parent}: its .parquet files hold no row.")
    return ParquetSet(ParquetPictures(groups, rows), columns)


def _say_dropped(path: Path, names: Sequence[str]) -> None:
    """Log the columns that are not read."""
    dropped = [name for name in names if name != "image"]
    if dropped:
        line = "%s: columns without text, numbers or truth values are not read: %s"
        logger.warning(line, path, ", ".join(dropped))


def _label_columns(path: Path, schema: Any) -> list[str]:
    """The columns of text, numbers or truth values, after a look at the images' column."""
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
    return [name for name, kind in kinds.items() if _is_label(kind)]


def _is_label(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        return _is_label(kind.value_type)
    texts = (types.is_string, types.is_large_string, types.is_string_view, types.is_boolean)
    numbers = (types.is_integer, types.is_float32, types.is_float64)
    return any(test(kind) for test in (*texts, *numbers))


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    """An open Parquet file; what goes wrong with it is one clear line."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UsageError(
            f"{path}: reading Parquet files needs pyarrow, which is not installed; run "
            f"{pip_install('ctrak-jax[parquet]')}."
        ) from None
    try:
        with ParquetFile(path) as file:
            yield file
    except (ArrowException, OSError) as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None):
            raise read_error(path, error) from None
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{path}: not a readable Parquet file ({reason}).") from None
