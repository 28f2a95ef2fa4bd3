"""Reading a data set folder.

The pictures are listed by name; the sources say by name or place what each of them shows; what they
say is joined; what does not fit is a fault.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ctrak_jax.data.faults import refuse
from ctrak_jax.data.folder.join import join
from ctrak_jax.data.folder.labels import (
    Labels,
    agreeing_folders,
    chosen_columns,
    folder_labels,
    index_labels,
    naming_column,
    prompt_labels,
    sidecar_labels,
    table_labels,
)
from ctrak_jax.data.folder.listing import KINDS, Listing, list_pictures
from ctrak_jax.data.folder.names import walk
from ctrak_jax.data.folder.tables import LabelTable, is_counted, keyed_by, read_table
from ctrak_jax.data.folder.unread import TABLE_SUFFIXES, unread
from ctrak_jax.data.raw import RawImages
from ctrak_jax.data.reading import json_object, open_npy, read_bounded
from ctrak_jax.data.survey import Handling, Survey, settle
from ctrak_jax.errors import UsageError

PICTURES = "images"
"""The sub-folder of the pictures; they may also lie in the folder itself."""
TABLES = tuple(f"{stem}{end}" for stem in ("attributes", "metadata") for end in TABLE_SUFFIXES)
PROMPTS = "prompts.txt"


def read_folder(
    path: Path,
    *,
    side: int | None = None,
    handling: Handling | None = None,
    wanted: Sequence[str] = (),
) -> RawImages:
    """Read a data set folder; pictures are decoded when they are read.

    Args:
        path: the folder.
        side: crops each picture to its centred square and resizes it to this side.
        handling: of everything else; by default whatever is wrong is refused.
        wanted: names of attributes that the config mentions.

    Raises:
        UsageError: a file is missing or unreadable, images are not uint8 [N, H, W, 3], hold NaN or
            differ in size, or labels and pictures do not fit; the message names the file.
    """
    survey = survey_folder(path, wanted, resize=side is not None)
    return settle(survey, replace(handling or Handling(), side=side))


def survey_folder(path: Path, wanted: Sequence[str] = (), *, resize: bool = False) -> Survey:
    """A data set folder as it is found.

    Args:
        path: the folder.
        wanted: names of attributes that the config mentions.
        resize: pictures will be resized, which an array cannot be.

    Raises:
        UsageError: a file cannot be read at all, or it is uncertain what belongs to which picture.
    """
    if not path.is_dir():
        raise UsageError(f"data.path={path}: no such folder; give a folder with attributes.csv.")
    array, about = path / "images.npy", path / "meta.json"
    folder = path if array.exists() or not (path / PICTURES).is_dir() else path / PICTURES
    below = [] if array.exists() else walk(folder)
    inside = folder == path and not array.exists()
    outside = [] if inside else walk(path, "" if array.exists() else PICTURES)
    files = [path / name for name in outside if "/" not in name]
    files += [folder / name for name in below]
    tables = [read_table(file) for file in files if file.name.lower() in TABLES]
    prompts = [file for file in files if file.name.lower() == PROMPTS]
    if array.exists():
        _require_alone(path, array, outside)
        if resize:
            raise UsageError(f"{array}: data.resize works on picture files alone; leave it out.")
        images, listing = _array(array), None
    else:
        by_place = bool(prompts) or any(map(is_counted, tables))
        listing = _listing(path, folder, below, by_place)
        images = listing.encoded
    count = len(images)

    def name(row: int) -> str:
        return f"{array}: image {row}" if listing is None else listing.encoded.name(row)

    sources = [_of_table(table, folder, listing, count, name, wanted) for table in tables]
    sources += [prompt_labels(file, count) for file in prompts]
    if listing is not None:
        sources += sidecar_labels(listing, wanted)
        sources += _classes(listing, sources)
    joined = join(sources, count, name, wanted)
    if not joined.attributes and joined.captions is None:
        refuse(joined.faults)
        raise UsageError(
            f"{path}: {count} images, and neither attributes nor captions; add attributes.csv "
            "(index,style,...), prompts.txt (one caption per line), a .txt beside each picture, or "
            "a sub-folder per class."
        )
    used = {array, about, *prompts, *(table.file for table in tables)}
    others = [] if listing is None else listing.sidecars.unread()
    others += [path / name for name in outside if path / name not in used]
    meta = json_object(read_bounded(about), about, "{}") if about.exists() else {}
    return Survey(
        name=str(meta.get("name", path.name)),
        images=images,
        names=name,
        attributes=joined.attributes,
        partial=joined.partial,
        captions=joined.captions,
        faults=[*joined.faults, *unread(others)],
        meta=meta,
    )


def _require_alone(path: Path, array: Path, names: Sequence[str]) -> None:
    """Refuse an array with pictures below ``images``: which of them are meant?"""
    ends = tuple(suffix for kind in KINDS.values() for suffix in kind)
    below = (n for n in names if n.lower().startswith(f"{PICTURES}/") and n.lower().endswith(ends))
    if found := next(below, None):
        raise UsageError(f"{array}: {path / found} is there, too; remove the array or the folder.")


def _listing(path: Path, folder: Path, below: Sequence[str], by_place: bool) -> Listing:
    names = [n for n in below if n.rpartition("/")[2].lower() not in (*TABLES, PROMPTS)]
    suffixes = tuple(suffix for kind in KINDS.values() for suffix in kind)
    if folder == path and not any(name.lower().endswith(suffixes) for name in names):
        raise UsageError(f"{path}: has neither images.npy nor images/; see the folder format.")
    return list_pictures(folder, names, by_place=by_place)


def _of_table(
    table: LabelTable,
    folder: Path,
    listing: Listing | None,
    count: int,
    name: Callable[[int], str],
    wanted: Collection[str],
) -> Labels:
    """What a table says: by the names of files, which a table by index may have, too; else by
    index."""
    names = None if listing is None else listing.names
    if table.key == "index":
        column = None if names is None else naming_column(table, names, wanted)
        if column is None:
            return index_labels(table, count, name, wanted)
        wanted = {*wanted, *chosen_columns(table)} - {column}
        table = keyed_by(table, column)
    if names is None:
        raise UsageError(
            f"{table.file}: names files, and the images of this folder have no names; use a column "
            "'index' in its place."
        )
    return table_labels(table, names, name, wanted, _below(folder, table.file))


def _below(folder: Path, file: Path) -> str:
    """The folder of a file below another, ending with ``/``; empty where it is not below."""
    inside = file.parent.is_relative_to(folder)
    below = file.parent.relative_to(folder).as_posix() if inside else "."
    return "" if below == "." else f"{below}/"


def _classes(listing: Listing, sources: Sequence[Labels]) -> list[Labels]:
    """Sub-folders as classes, where no other source has attributes; where a tool chose the folders,
    nor captions. Where a table has the classes, too, the two must agree."""
    captioned = listing.sharded and any(labels.captions for labels in sources)
    if captioned:
        return []
    tables = [labels for labels in sources if labels.attributes]
    if tables:
        return [] if listing.sharded else agreeing_folders(listing, tables)
    found = folder_labels(listing)
    return [] if found is None else [found]


def _array(file: Path) -> np.ndarray:
    images = open_npy(file)
    if images.ndim != 4 or images.shape[-1] != 3:
        raise UsageError(f"{file}: shape {images.shape}, expected [N, H, W, 3].")
    if np.issubdtype(images.dtype, np.floating):
        bad = ~np.isfinite(images).reshape(len(images), -1).all(1)
        if bad.any():
            raise UsageError(
                f"{file}: image {int(np.argmax(bad))} holds NaN or infinity; fix or remove it."
            )
    if images.dtype != np.uint8:
        raise UsageError(f"{file}: dtype {images.dtype}, expected uint8 (0..255).")
    return images
