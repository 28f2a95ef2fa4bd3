"""The folder format: images, ``attributes.csv``, optional prompts and meta data.

images.npy        uint8 [N, H, W, 3]; or images/*.png (sorted by name); or images/*.tar
attributes.csv    header index,<attribute>,...; one row an image; values are text
prompts.txt       optional, one line an image
meta.json         optional: name, licence, source
"""

import csv
import io
import json
import lzma
import tarfile
import tokenize
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ctrak_jax.data.raw import RawImages
from ctrak_jax.errors import UsageError

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def read_folder(path: Path) -> RawImages:
    """Read a data set folder.

    Raises:
        UsageError: a missing or unreadable file, images that are not uint8 [N, H, W, 3] or hold
            NaN, differing image sizes, or counts that do not agree; the message names the file.
    """
    if not path.is_dir():
        raise UsageError(f"data.path={path}: no such folder; give a folder with attributes.csv.")
    images = _images(path)
    attributes = _attributes(path / "attributes.csv", len(images))
    prompts = path / "prompts.txt"
    if prompts.exists():
        lines = _text(prompts).splitlines()
        if len(lines) != len(images):
            raise UsageError(f"{prompts}: {len(lines)} lines for {len(images)} images.")
    meta = _meta(path / "meta.json")
    return RawImages(
        name=meta.get("name", path.name), images=images, attributes=attributes, meta=meta
    )


def write_folder(raw: RawImages, path: Path) -> None:
    """Write a data set in the folder format (images.npy)."""
    path.mkdir(parents=True, exist_ok=True)
    np.save(path / "images.npy", raw.images)
    with (path / "attributes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["index", *raw.attributes])
        writer.writerows(enumerate_rows(raw))
    (path / "meta.json").write_text(json.dumps({"name": raw.name, **raw.meta}, indent=2) + "\n")


def enumerate_rows(raw: RawImages) -> list[list[str]]:
    """Rows of attributes.csv."""
    columns = zip(*raw.attributes.values(), strict=True)
    return [[str(i), *values] for i, values in enumerate(columns)]


def _text(file: Path) -> str:
    """A text file, its line ends as they are."""
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            return stream.read()
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: not UTF-8 text ({error}).") from None


def _meta(file: Path) -> dict[str, str]:
    """meta.json with its values as text; nothing where there is none."""
    try:
        meta = json.loads(_text(file)) if file.exists() else {}
    except json.JSONDecodeError as error:
        raise UsageError(f"{file}: not valid JSON ({error}).") from None
    if not isinstance(meta, dict):
        raise UsageError(f"{file}: got a {type(meta).__name__}, expected an object such as {{}}.")
    return {name: str(value) for name, value in meta.items()}


def _images(path: Path) -> np.ndarray:
    array_file, folder = path / "images.npy", path / "images"
    if array_file.exists():
        try:
            images = np.lib.format.open_memmap(array_file, mode="r")  # np.load takes .npz, too
        except (OSError, ValueError, tokenize.TokenError) as error:
            raise UsageError(f"{array_file}: not a readable .npy file ({error}).") from None
        _check_array(images, array_file)
        return images
    if not folder.is_dir():
        raise UsageError(f"{path}: has neither images.npy nor images/; see the folder format.")
    names = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES)
    tars = sorted(folder.glob("*.tar"))
    if names:
        pictures = [(str(p), p.read_bytes()) for p in names]
    elif tars:
        pictures = [item for tar in tars for item in _tar_members(tar)]
    else:
        raise UsageError(f"{folder}: holds no {', '.join(PICTURES)} or .tar file.")
    if not pictures:
        raise UsageError(f"{folder}: its .tar files hold no {', '.join(PICTURES)}.")
    decoded = [_decode(name, data) for name, data in pictures]
    first = decoded[0].shape
    for (name, _), image in zip(pictures, decoded, strict=True):
        if image.shape != first:
            raise UsageError(
                f"{name}: is {image.shape[1]} x {image.shape[0]} pixels, the first image is "
                f"{first[1]} x {first[0]}; all images must have one size."
            )
    return np.stack(decoded)


def _tar_members(file: Path) -> list[tuple[str, bytes]]:
    try:
        with tarfile.open(file) as tar:
            members = sorted(
                (m for m in tar if m.isfile() and Path(m.name).suffix.lower() in PICTURES),
                key=lambda m: m.name,
            )
            read = [(f"{file}:{m.name}", tar.extractfile(m)) for m in members]
            return [(name, stream.read()) for name, stream in read if stream is not None]
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{file}: not a readable tar file ({reason}).") from None


def _decode(name: str, data: bytes) -> np.ndarray:
    try:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise UsageError(f"{name}: not a readable image ({error}).") from None


def _check_array(images: np.ndarray, file: Path) -> None:
    if images.ndim != 4 or images.shape[-1] != 3:
        raise UsageError(f"{file}: shape {images.shape}, expected [N, H, W, 3].")
    if np.issubdtype(images.dtype, np.floating):
        bad = ~np.isfinite(images).reshape(len(images), -1).all(1)
        if bad.any():
            raise UsageError(
                f"{file}: image {int(np.argmax(bad))} holds NaN or infinity; mend or remove it."
            )
    if images.dtype != np.uint8:
        raise UsageError(f"{file}: dtype {images.dtype}, expected uint8 (0..255).")


def _attributes(file: Path, count: int) -> dict[str, tuple[str, ...]]:
    try:
        rows = list(csv.reader(io.StringIO(_text(file), newline="")))
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
            f"{file}: {len(body)} rows for {count} images; there must be one row an image."
        )
    for number, row in enumerate(body):
        if len(row) != len(header) or row[0] != str(number):
            raise UsageError(
                f"{file}:{number + 2}: got {','.join(row)!r}, expected {len(header)} values "
                f"starting with index {number}."
            )
    return {name: tuple(row[c] for row in body) for c, name in enumerate(header) if c}
