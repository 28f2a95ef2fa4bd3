"""CelebA and CelebA-HQ as they are distributed: a folder of pictures beside a table of attributes.

The table's first line is the number of pictures, its second the names of the attributes, then comes
a line ``file 1 -1 ...`` per picture. The order of the table is that of the images; 1 and -1 are
read as ``yes`` and ``no``.
"""

from pathlib import Path
from typing import NamedTuple

from ctrak_jax.data.pictures import Files, Pictures
from ctrak_jax.data.raw import RawImages
from ctrak_jax.data.reading import decoded
from ctrak_jax.errors import UsageError


class Layout(NamedTuple):
    """Names in a distribution: the table and the folder of pictures."""

    table: str
    pictures: str


LAYOUTS = (
    Layout("CelebAMask-HQ-attribute-anno.txt", "CelebA-HQ-img"),
    Layout("list_attr_celeba.txt", "img_align_celeba"),
)
"""CelebA-HQ (CelebAMask-HQ) and CelebA (aligned and cropped)."""
VALUES = {"1": "yes", "-1": "no"}
LICENCE = "non-commercial research only; see the terms of CelebA and CelebA-HQ"


def read_celeba(path: Path, *, side: int) -> RawImages:
    """Read CelebA-HQ or CelebA from a folder of one of the ``LAYOUTS``.

    Pictures are decoded when they are read, cropped to their centred square and resized to
    ``side``.

    Raises:
        UsageError: neither layout, a picture that the table names is missing, or the table has
            another form; the message names file and line.
    """
    layout = next((known for known in LAYOUTS if (path / known.table).is_file()), None)
    if layout is None:
        expected = " or ".join(f"{known.table} beside {known.pictures}/" for known in LAYOUTS)
        raise UsageError(f"data.path={path}: expected {expected}; give the folder that holds them.")
    table, folder = path / layout.table, path / layout.pictures
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; {layout.table} belongs to the pictures in it.")
    files, attributes = _read_table(table)
    present = {file.name for file in folder.iterdir()}
    for number, file in enumerate(files, start=3):
        if file not in present:
            raise UsageError(f"{folder / file}: missing, but {table}:{number} names it.")
    return RawImages(
        name=path.name,
        images=Pictures(Files([folder / file for file in files]), side=side),
        attributes=attributes,
        vocabulary=dict.fromkeys(attributes, ("no", "yes")),
        meta={"name": path.name, "licence": LICENCE, "source": f"{table.name}, side {side}"},
    )


def _read_table(table: Path) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """The files and the values of every attribute, by row."""
    lines = decoded(table.read_bytes(), table).splitlines()
    count = lines[0].strip() if lines else ""
    if not count.isdecimal() or len(lines) < 3:
        raise UsageError(
            f"{table}:1: got {count!r}, expected the number of pictures, then a line of attribute "
            "names and one line per picture."
        )
    names, rows = lines[1].split(), [line.split() for line in lines[2:] if line.strip()]
    if len(rows) != int(count):
        raise UsageError(f"{table}: {len(rows)} rows, but its first line says {count}; cut off?")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(f"{table}:2: attribute {twice[0]!r} is given twice.")
    for number, (file, *values) in enumerate(rows, start=3):
        if len(values) != len(names) or not set(values) <= set(VALUES):
            raise UsageError(
                f"{table}:{number}: got {file} and {len(values)} values {sorted(set(values))}, "
                f"expected {len(names)} values of 1 or -1."
            )
    columns = zip(*(values for _, *values in rows), strict=True)
    return [row[0] for row in rows], {
        name: tuple(VALUES[value] for value in column)
        for name, column in zip(names, columns, strict=True)
    }
