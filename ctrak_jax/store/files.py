"""Small files of a run: JSON and text, written whole or not at all, and what they are hashed to."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ctrak_jax.errors import StoreError, UsageError

Prepared = TypeVar("Prepared")
BLOCK, BLOCKS = 2**16, 1024
"""Bytes of a block of a large file's digest, and blocks of a file."""


def digest(value: Any) -> str:
    """SHA-256 of a JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def blocks_digest(files: Sequence[Path]) -> str:
    """SHA-256 over the sizes of large files and blocks of them, evenly spaced: to read hundreds of
    gigabytes at every start would take longer than what it guards."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            digest.update(str(size).encode())
            for place in np.linspace(0, max(size - BLOCK, 0), BLOCKS).astype(int):
                file.seek(int(place))
                digest.update(file.read(BLOCK))
    return digest.hexdigest()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(part, path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror}).") from error


def require_writable(folder: Path) -> None:
    """Refuse a folder of results that cannot be made or written, before anything is computed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be written ({error.strerror}); give another --out, or the right to "
            "write there. (`ctrak attribute` and `ctrak info` only read a finished run.)"
        ) from error


def in_folder(folder: Path, prepared: Callable[[], Prepared]) -> Prepared:
    """What is prepared in a folder of results that can be written; where that is refused, none is
    left that was not there.

    Raises:
        StoreError: the folder cannot be made or written.
        UsageError: as ``prepared`` refuses.
    """
    fresh = [each for each in (folder, *folder.parents) if not each.exists()]
    require_writable(folder)
    try:
        return prepared()
    except UsageError:
        with suppress(OSError):  # one that holds something stays
            for each in fresh:
                each.rmdir()
        raise


def read_json(path: Path, made_by: str) -> Any:
    """Read a result of another stage; where it is missing or damaged, say what makes it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{path} is missing; run `ctrak {made_by}` first.") from None
    except ValueError as error:  # no JSON, or no text
        raise StoreError(
            f"{path} is damaged ({error}); delete it and run `ctrak {made_by}` again."
        ) from None


def plain(key: Mapping[str, Any]) -> dict[str, Any]:
    """A key as JSON gives it back."""
    return json.loads(json.dumps(key, default=str))
