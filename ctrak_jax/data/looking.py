"""A look at every picture of a set: at its header, or decoded once, by all cores.

What has been found can be recorded: a file of JSON lines, one per finished chunk, with a stamp of
its files and of Pillow's version. A look that was interrupted resumes with the chunks that are not
there. A read that the machine refuses (input or output, memory, a right) ends the look.
"""

import hashlib
import json
import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import PIL

from ctrak_jax import meeting
from ctrak_jax.data.decoding import PictureHeader, examined, header_of, readable
from ctrak_jax.data.faults import Fault
from ctrak_jax.data.pictures import EncodedPictures, Files, PictureRows
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.store.files import write_atomically

RECORD = "pictures.jsonl"
"""The record's name in the folder of a run, which ``ctrak data check`` writes, too."""
CHUNK = 500
"""Pictures looked at between two lines of the record."""
PARALLEL_FROM = 2000
"""Pictures from which on other processes decode, too: they take a while to begin."""


class Record(NamedTuple):
    """The file that finished chunks are noted in, and found again; one process alone writes it."""

    file: Path
    is_written: bool = True


class Looked(NamedTuple):
    """What a look found: the header of every picture, None of those with a fault."""

    headers: list[PictureHeader | None]
    faults: list[Fault]

    def of(self, rows: Sequence[int]) -> "Looked":
        """The same of some pictures."""
        place = {row: number for number, row in enumerate(rows)}
        faults = [f._replace(row=place[f.row]) for f in self.faults if f.row in place]
        return Looked([self.headers[row] for row in rows], faults)


def look(
    encoded: EncodedPictures,
    *,
    decode: bool,
    record: Record | None = None,
    workers: int | None = None,
    advance: Callable[[int], Any] = lambda count: None,
) -> Looked:
    """Look at every picture.

    Args:
        decode: decode them, too; else a fault that only decoding shows stays hidden.
        record: of finished chunks.
        workers: processes that decode; by default one per core.
        advance: called with the number of pictures in each finished chunk.

    Raises:
        StoreError: a file cannot be read now, or the record cannot be written.
    """
    total = len(encoded)
    chunks = [range(first, min(first + CHUNK, total)) for first in range(0, total, CHUNK)]
    done = {} if record is None else _resumed(record, encoded, chunks)
    advance(sum(len(chunk) for chunk in chunks if chunk.start in done))
    todo = [chunk for chunk in chunks if chunk.start not in done]
    workers = workers or (_cores() if decode and total >= PARALLEL_FROM else 1)
    for chunk, found in zip(todo, _over(encoded, todo, decode, workers), strict=True):
        done[chunk.start] = found
        if record is not None and record.is_written:
            _note(record.file, chunk, found)
        advance(len(chunk))
        meeting.progress()
    headers: list[PictureHeader | None] = []
    faults: list[Fault] = []
    for chunk in chunks:
        kinds, which, _ = done[chunk.start]
        for row, kind in zip(chunk, which, strict=True):
            found = kinds[kind]
            headers.append(None if isinstance(found, str) else found)
            if isinstance(found, str):
                faults.append(Fault(encoded.name(row), found, "picture", row))
    return Looked(headers, faults)


class Found(NamedTuple):
    """What a chunk of pictures holds: the headers and faults that occur, and which one each
    picture has (few differ, and they travel between processes); the stamp of their files."""

    kinds: list[PictureHeader | str]
    which: list[int]
    stamp: str


def _look(encoded: EncodedPictures, chunk: range, decode: bool) -> Found:
    read = examined if decode else header_of
    kinds: dict[PictureHeader | str, int] = {}
    which: list[int] = []
    for row in chunk:
        name = encoded.name(row)
        try:
            with readable(name):
                found = read(encoded.read(row))
        except UsageError as error:
            found = str(error).removeprefix(f"{name}: ").removesuffix(".")
        which.append(kinds.setdefault(found, len(kinds)))
    return Found(list(kinds), which, _stamp(encoded, chunk))


# By several processes

_PICTURES: list[EncodedPictures] = []
"""The pictures, in a process that was forked for them."""


def _look_at_chunk(job: tuple[range, bool]) -> Found:
    return _look(_PICTURES[0], *job)


def _over(
    encoded: EncodedPictures, chunks: Sequence[range], decode: bool, workers: int
) -> Iterator[Found]:
    """What the chunks hold, in their order."""
    if workers == 1 or len(chunks) < 2:
        yield from (_look(encoded, chunk, decode) for chunk in chunks)
        return
    jobs = [(chunk, decode) for chunk in chunks]
    _PICTURES[:] = [encoded]
    with _executor(encoded, workers) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of numpy's, which lie idle
        try:
            yield from pool.map(_look_at_chunk, jobs)
        except BrokenProcessPool:
            raise StoreError(
                "a process that decodes pictures was killed (out of memory?); the same command "
                "resumes."
            ) from None


def _executor(encoded: EncodedPictures, workers: int) -> Executor:
    """Forked processes where that is safe, which leaves out JAX and pyarrow; else threads."""
    whole = encoded.whole if isinstance(encoded, PictureRows) else encoded
    alone = threading.active_count() == 1 and "jax" not in sys.modules
    if isinstance(whole, Files) and alone and sys.platform == "linux":
        return ProcessPoolExecutor(workers, multiprocessing.get_context("fork"))
    return ThreadPoolExecutor(workers)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


# The record


def _resumed(record: Record, encoded: EncodedPictures, chunks: Sequence[range]) -> dict[int, Found]:
    """The chunks that were noted of these pictures as they are. The record keeps them alone."""
    text = record.file.read_text("utf-8", "replace") if record.file.exists() else ""
    ranges, done, kept = {chunk.start: chunk for chunk in chunks}, {}, []
    for line in text.split("\n"):
        first, found = _entry(line)
        chunk = ranges.get(first)
        if chunk and len(chunk) == len(found.which) and _stamp(encoded, chunk) == found.stamp:
            done[first] = found
            kept.append(line)
    if record.is_written:
        write_atomically(record.file, "".join(f"{line}\n" for line in kept))
    return done


def _note(file: Path, chunk: range, found: Found) -> None:
    try:
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"first": chunk.start, **found._asdict()}) + "\n")
    except OSError as error:
        raise StoreError(f"{file}: cannot be written ({error.strerror}).") from None


def _entry(line: str) -> tuple[int, Found]:
    """The first row of a chunk and what was noted of it; row -1, which is none, of a damaged
    line."""
    try:
        entry = json.loads(line)
        found = Found([_from_json(kind) for kind in entry["kinds"]], entry["which"], entry["stamp"])
        is_whole = all(0 <= kind < len(found.kinds) for kind in found.which)
        return (int(entry["first"]) if is_whole else -1), found
    except (ValueError, TypeError, KeyError):
        return -1, Found([], [], "")


def _from_json(found: Any) -> PictureHeader | str:
    if isinstance(found, str):
        return found
    size, *others = found
    return PictureHeader(tuple(size), *others)


def _stamp(encoded: EncodedPictures, chunk: range) -> str:
    """Changes where a picture of a chunk is added, renamed, or written again, and with Pillow."""
    digest, stats = hashlib.sha256(PIL.__version__.encode()), {}
    for row in chunk:
        file = encoded.file(row)
        if file not in stats:
            stats[file] = _written(file)
        digest.update(f"{encoded.name(row)} {stats[file]}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _written(file: Path) -> str:
    try:
        found = os.stat(file)
    except OSError as error:  # reading it says so
        return str(error.strerror)
    return f"{found.st_size} {found.st_mtime_ns}"
