"""A look at every picture of a set: at its header, or decoded once, by all cores.

What has been found can be recorded: a file of JSON lines, one per finished chunk, with a stamp of
its files. A look that was interrupted resumes with the chunks that are not there.
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
from pathlib import Path
from typing import Any, NamedTuple

from ctrak_jax.data.decoding import PictureHeader, examined, header_of, readable
from ctrak_jax.data.faults import Fault
from ctrak_jax.data.pictures import EncodedPictures, Files, PictureRows
from ctrak_jax.errors import UsageError

RECORD = "pictures.jsonl"
"""The record's name in the folder of a run, which ``ctrak data check`` writes, too."""
CHUNK = 500
"""Pictures looked at between two lines of the record."""
FEW = 2000
"""Sets of fewer are looked at by this process alone: others take a while to begin."""


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
    record: Path | None = None,
    workers: int | None = None,
    advance: Callable[[int], Any] = lambda count: None,
) -> Looked:
    """Look at every picture.

    Args:
        decode: decode them, too; else a fault that only decoding shows stays hidden.
        record: where finished chunks are noted, and found again.
        workers: processes that decode; by default one per core.
        advance: told how many pictures more have been looked at.
    """
    total = len(encoded)
    chunks = [range(first, min(first + CHUNK, total)) for first in range(0, total, CHUNK)]
    done = {} if record is None else _resumed(record, encoded, chunks)
    advance(sum(len(chunk) for chunk in chunks if chunk.start in done))
    todo = [chunk for chunk in chunks if chunk.start not in done]
    workers = workers or (_cores() if decode and total >= FEW else 1)
    for chunk, found in zip(todo, _over(encoded, todo, decode, workers), strict=True):
        done[chunk.start] = found
        if record is not None:
            _note(record, chunk, found)
        advance(len(chunk))
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
        try:
            found = read(encoded.read(row))
        except Exception as error:
            found = _reason(error, encoded.name(row))
        which.append(kinds.setdefault(found, len(kinds)))
    return Found(list(kinds), which, _stamp(encoded, chunk))


def _reason(error: Exception, name: str) -> str:
    """What is wrong with a picture, without its name."""
    try:
        with readable(name):
            raise error
    except UsageError as said:
        return str(said).removeprefix(f"{name}: ").removesuffix(".")


# By several processes

_MINE: list[EncodedPictures] = []
"""The pictures, in a process that was forked for them."""


def _look_at_mine(job: tuple[range, bool]) -> Found:
    return _look(_MINE[0], *job)


def _over(
    encoded: EncodedPictures, chunks: Sequence[range], decode: bool, workers: int
) -> Iterator[Found]:
    """What the chunks hold, in their order."""
    if workers == 1 or len(chunks) < 2:
        yield from (_look(encoded, chunk, decode) for chunk in chunks)
        return
    jobs = [(chunk, decode) for chunk in chunks]
    _MINE[:] = [encoded]
    with _executor(encoded, workers) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of numpy's, which lie idle
        yield from pool.map(_look_at_mine, jobs)


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


def _resumed(record: Path, encoded: EncodedPictures, chunks: Sequence[range]) -> dict[int, Found]:
    """The chunks that were noted of these pictures as they are. The record keeps them alone."""
    lines = record.read_text("utf-8").split("\n") if record.exists() else []
    ranges, done, kept = {chunk.start: chunk for chunk in chunks}, {}, []
    for line in lines[:-1]:  # what stands behind the last line end was cut off
        entry = json.loads(line)
        chunk = ranges.get(entry["first"])
        if chunk and len(chunk) == len(entry["which"]) and _stamp(encoded, chunk) == entry["stamp"]:
            kinds = [_from_json(kind) for kind in entry["kinds"]]
            done[chunk.start] = Found(kinds, entry["which"], entry["stamp"])
            kept.append(line)
    record.parent.mkdir(parents=True, exist_ok=True)
    part = record.with_name(f"{record.name}.part")
    part.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    part.replace(record)
    return done


def _note(record: Path, chunk: range, found: Found) -> None:
    with record.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"first": chunk.start, **found._asdict()}) + "\n")


def _from_json(found: Any) -> PictureHeader | str:
    if isinstance(found, str):
        return found
    size, *others = found
    return PictureHeader(tuple(size), *others)


def _stamp(encoded: EncodedPictures, chunk: range) -> str:
    """Changes where a picture of a chunk is added, renamed, or written again."""
    digest, stats = hashlib.sha256(), {}
    for row in chunk:
        file = encoded.file(row)
        if file not in stats:
            stats[file] = _written(file)
        digest.update(f"{encoded.name(row)} {stats[file]}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _written(file: Path) -> str:
    try:
        found = os.stat(file)
    except OSError as error:  # the look itself says so
        return str(error.strerror)
    return f"{found.st_size} {found.st_mtime_ns}"
