"""Tables of a run on disk: CSV and JSON, written whole or not at all, checked when read."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ctrak_jax.errors import StoreError
from ctrak_jax.store.files import read_json, write_atomically


def damaged(path: Path, fault: object, made_by: str) -> StoreError:
    """The error of a table that cannot be read."""
    return StoreError(f"{path} is damaged ({fault}); delete it and run `ctrak {made_by}` again.")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def read_csv(path: Path, columns: Sequence[str], made_by: str) -> Iterator[dict[str, str]]:
    """The rows of a table, by column.

    Args:
        path: of the table.
        columns: those that must be there.
        made_by: the command that writes it.

    Raises:
        StoreError: missing or damaged; names the command.
    """
    try:
        text = path.read_bytes().decode()
        if not text.endswith("\n"):
            raise ValueError("its last line is cut off")
        header, *rows = csv.reader(io.StringIO(text, newline=""))
        if missing := [name for name in columns if name not in header]:
            raise ValueError(f"columns {missing} are missing, got {header}")
        for row in rows:
            if len(row) != len(header):
                raise ValueError("a row of more or fewer values than the header")
            yield dict(zip(header, row, strict=True))
    except FileNotFoundError:
        raise StoreError(f"{path} is missing; run `ctrak {made_by}` first.") from None
    except (ValueError, csv.Error) as error:
        raise damaged(path, error, made_by) from None


def write_json(path: Path, kind: Any, value: Any) -> None:
    """Write a value of type ``kind`` as JSON; fields at their default are left out."""
    plain = TypeAdapter(kind).dump_python(value, mode="json", exclude_defaults=True)
    write_atomically(path, json.dumps(plain, indent=1) + "\n")


def read_json_as(kind: Any, path: Path, made_by: str) -> Any:
    """What :func:`write_json` wrote, as ``kind``.

    Raises:
        StoreError: missing or damaged; names the command.
    """
    found = read_json(path, made_by)
    try:
        return TypeAdapter(kind).validate_python(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise damaged(path, f"{place}: {first['msg']}", made_by) from None
