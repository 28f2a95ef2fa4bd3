"""CelebA and CelebA-HQ as they are distributed: a folder of pictures beside a table of attributes.

The table's first line is the number of pictures, its second the names of the attributes, then comes
a line ``file 1 -1 ...`` per picture. Kaggle's table has commas, and ``image_id`` and the names in
its first line; its pictures stand one folder deeper. The order of the table is that of the images;
1 and -1 are read as ``yes`` and ``no``.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ctrak_jax.data.faults import Fault
from ctrak_jax.data.folder.names import walk
from ctrak_jax.data.pictures import SUFFIXES, Files
from ctrak_jax.data.raw import RawImages
from ctrak_jax.data.reading import decoded, read_bounded
from ctrak_jax.data.survey import Handling, Survey, settle
from ctrak_jax.errors import UsageError


class Layout(NamedTuple):
    """Names in a distribution: the table and the folder of pictures."""

    table: str
    pictures: str


LAYOUTS = (
    Layout("CelebAMask-HQ-attribute-anno.txt", "CelebA-HQ-img"),
    Layout("list_attr_celeba.txt", "img_align_celeba"),
    Layout("list_attr_celeba.csv", "img_align_celeba"),
)
"""CelebA-HQ (CelebAMask-HQ), CelebA (aligned and cropped), and CelebA at Kaggle."""
VALUES = {"1": "yes", "-1": "no"}
LICENCE = "non-commercial research only; see the terms of CelebA and CelebA-HQ"


def read_celeba(path: Path, *, side: int, handling: Handling | None = None) -> RawImages:
    """Read CelebA-HQ or CelebA from a folder of one of the ``LAYOUTS``.

    Pictures are decoded when they are read, cropped to their centred square and resized to
    ``side``.

    Raises:
        UsageError: neither layout, a picture that the table names is missing, or the table has
            another form; the message names file and line.
    """
    return settle(survey_celeba(path, side=side), replace(handling or Handling(), side=side))


def survey_celeba(path: Path, *, side: int) -> Survey:
    """CelebA as it is found: a picture without its row, or a row without its picture, is a fault.

    Raises:
        UsageError: neither layout, the table has another form, or two pictures have one name.
    """
    layout = next((known for known in LAYOUTS if (path / known.table).is_file()), None)
    if layout is None:
        expected = " or ".join(f"{known.table} beside {known.pictures}/" for known in LAYOUTS)
        raise UsageError(f"data.path={path}: expected {expected}; give the folder that holds them.")
    table, folder = path / layout.table, path / layout.pictures
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; {layout.table} belongs to the pictures in it.")
    rows = _read_table(table)
    named = {row.file for row in rows.rows}
    files = [folder / name for name in walk(folder)]
    present = _present(files, named)
    faults = [
        Fault(str(folder / row.file), f"missing, but {table}:{row.line} names it", "incomplete")
        for row in rows.rows
        if row.file not in present
    ]
    faults += [
        Fault(str(file), f"has no row in {table}", "incomplete")
        for file in files
        if file.name not in named and file.name.lower().endswith(SUFFIXES)
    ]
    kept = [row for row in rows.rows if row.file in present]
    images = Files([present[row.file] for row in kept])
    return Survey(
        name=path.name,
        images=images,
        names=images.name,
        attributes={
            name: [VALUES[row.values[place]] for row in kept]
            for place, name in enumerate(rows.names)
        },
        faults=faults,
        vocabulary=dict.fromkeys(rows.names, ("no", "yes")),
        meta={"name": path.name, "licence": LICENCE, "source": f"{table.name}, side {side}"},
    )


def _present(files: Sequence[Path], named: Collection[str]) -> dict[str, Path]:
    """Where the pictures are that the table names."""
    found: dict[str, Path] = {}
    for path in files:
        if path.name in found:
            raise UsageError(
                f"{found[path.name]} and {path}: the table names one {path.name}; remove the other."
            )
        if path.name in named:
            found[path.name] = path
    return found


class CelebaRow(NamedTuple):
    """A line of the table."""

    line: int
    file: str
    values: Sequence[str]


class CelebaTable(NamedTuple):
    """The names of the attributes, and the pictures with their values."""

    names: Sequence[str]
    rows: Sequence[CelebaRow]


def _read_table(table: Path) -> CelebaTable:
    lines = decoded(read_bounded(table), table).splitlines()
    commas = table.suffix == ".csv"
    first = 1 if commas else 2
    split = [line.replace(",", " ").split() if commas else line.split() for line in lines]
    head = lines[0].strip() if lines else ""
    if commas and (not head.startswith("image_id") or len(lines) < 2):
        raise UsageError(f"{table}:1: got {head[:40]!r}, expected 'image_id' and attribute names.")
    if not commas and (not head.isdecimal() or len(lines) < 3):
        raise UsageError(
            f"{table}:1: got {head!r}, expected the number of pictures, then a line of attribute "
            "names and one line per picture."
        )
    names = split[0][1:] if commas else split[1]
    body = [(line, cells) for line, cells in enumerate(split, start=1) if cells][first:]
    if not commas and len(body) != int(head):
        raise UsageError(f"{table}: {len(body)} rows, but its first line says {head}; cut off?")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(f"{table}:{first}: attribute {twice[0]!r} is given twice.")
    known: set[str] = set()
    for line, (file, *values) in body:
        if len(values) != len(names) or not set(values) <= set(VALUES):
            raise UsageError(
                f"{table}:{line}: got {file} and {len(values)} values {sorted(set(values))}, "
                f"expected {len(names)} values of 1 or -1."
            )
        if file in known:
            raise UsageError(f"{table}:{line}: {file} is given twice; remove one line.")
        known.add(file)
    return CelebaTable(names, [CelebaRow(line, file, values) for line, (file, *values) in body])
