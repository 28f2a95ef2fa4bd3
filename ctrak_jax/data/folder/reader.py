"""Reading the folder format.

images.npy        uint8 [N, H, W, 3]; or images/*.png, *.jpg, *.jpeg, *.webp (sorted by name); or
                  shards, images/*.tar (webdataset) or images/*.parquet
attributes.csv    header index,<attribute>,...; one row per image; values are text. Shards may carry
                  attributes and captions themselves (see ``shards``); the files here win.
prompts.txt       one line per image: optional, or in place of attributes.csv
meta.json         optional: name, licence, source
"""

import csv
import io
from pathlib import Path

import numpy as np

from ctrak_jax.data.folder.parquet import read_parquet
from ctrak_jax.data.folder.shards import Shards
from ctrak_jax.data.folder.tars import read_tars
from ctrak_jax.data.pictures import SUFFIXES, Files, Pictures
from ctrak_jax.data.raw import Images, RawImages
from ctrak_jax.data.reading import decoded, json_object, open_npy
from ctrak_jax.errors import UsageError

KINDS = {"pictures": SUFFIXES, "tars": (".tar",), "Parquet files": (".parquet",)}
"""What images/ may hold, and how their names end."""


def read_folder(path: Path, *, side: int | None = None) -> RawImages:
    """Read a data set folder; pictures are decoded when they are read.

    With ``side`` each picture is cropped to its centred square and resized to this side.

    Raises:
        UsageError: a file is missing or unreadable, images are not uint8 [N, H, W, 3], hold NaN or
            differ in size, or counts do not agree; the message names the file.
    """
    if not path.is_dir():
        raise UsageError(f"data.path={path}: no such folder; give a folder with attributes.csv.")
    table, captions = path / "attributes.csv", path / "prompts.txt"
    array, about = path / "images.npy", path / "meta.json"
    attributes: dict[str, tuple[str, ...]] = {}
    prompts: tuple[str, ...] = ()
    if array.exists():
        if side is not None:
            raise UsageError(f"{array}: data.resize works on picture files alone; leave it out.")
        images: Images = _array(array)
    else:
        encoded, attributes, prompts = _shards(
            path, labels=not table.exists(), captions=not captions.exists()
        )
        images = Pictures(encoded, side=side)
    if not (table.exists() or captions.exists() or attributes or prompts):
        raise UsageError(
            f"{path}: {len(images)} images, and neither attributes nor captions; add "
            "attributes.csv (index,style,...) or prompts.txt (one caption per line)."
        )
    if table.exists():
        attributes = _attributes(table, len(images))
    if captions.exists():
        text = decoded(captions.read_bytes(), captions)
        lines = text.removesuffix("\n").split("\n")  # other signs may be in a caption
        prompts = tuple(line.removesuffix("\r") for line in lines)
        if len(prompts) != len(images):
            raise UsageError(f"{captions}: {len(prompts)} lines for {len(images)} images.")
    meta = json_object(about.read_bytes(), about, "{}") if about.exists() else {}
    return RawImages(
        name=str(meta.get("name", path.name)),
        images=images,
        attributes=attributes,
        prompts=prompts,
        meta=meta,
    )


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


def _shards(path: Path, *, labels: bool, captions: bool) -> Shards:
    """The pictures of a folder's images/: files of their own, in tars or in Parquet files."""
    folder = path / "images"
    if not folder.is_dir():
        raise UsageError(f"{path}: has neither images.npy nor images/; see the folder format.")
    files = sorted(p for p in folder.iterdir() if p.is_file())
    kinds = [
        (kind, [p for p in files if p.suffix.lower() in suffixes])
        for kind, suffixes in KINDS.items()
    ]
    match [(kind, found) for kind, found in kinds if found]:
        case [("pictures", found)]:
            return Shards(Files(found), {}, ())
        case [("tars", found)]:
            return read_tars(found, labels=labels, captions=captions)
        case [(_, found)]:
            return read_parquet(found, labels=labels, captions=captions)
        case []:
            raise UsageError(f"{folder}: holds no {', '.join(SUFFIXES)}, .tar or .parquet file.")
        case several:
            mixed = " and ".join(f"{len(found)} {kind}" for kind, found in several)
            raise UsageError(f"{folder}: holds {mixed}; keep one kind.")


def _attributes(file: Path, count: int) -> dict[str, tuple[str, ...]]:
    try:
        rows = list(csv.reader(io.StringIO(decoded(file.read_bytes(), file), newline="")))
    except (OSError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{file}: {reason}; expected a table 'index,<attribute>,...'.") from None
    if not rows or rows[0][:1] != ["index"] or len(rows[0]) < 2:
        raise UsageError(f"{file}: the first line must be 'index,<attribute>,...'.")
    header, body = rows[0], rows[1:]
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise UsageError(f"{file}:1: attribute {twice[0]!r} is given twice; rename or remove one.")
    if len(body) != count:
        raise UsageError(
            f"{file}: {len(body)} rows for {count} images; there must be one row per image."
        )
    for number, row in enumerate(body):
        if len(row) != len(header) or row[0] != str(number):
            raise UsageError(
                f"{file}:{number + 2}: got {','.join(row)!r}, expected {len(header)} values "
                f"starting with index {number}."
            )
    return {name: tuple(row[c] for row in body) for c, name in enumerate(header) if c}
