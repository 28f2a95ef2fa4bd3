"""A look at every picture of a set: at its header, or decoded once, by all cores.

What has been decoded can be recorded: a file of JSON lines, first what identifies the pictures,
then a line per finished chunk. A look that was interrupted resumes behind them.
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
    done = {} if record is None else _begin(record, encoded)
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
        for row, found in zip(chunk, done[chunk.start], strict=True):
            headers.append(None if isinstance(found, str) else found)
            if isinstance(found, str):
                faults.append(Fault(encoded.name(row), found, "picture", row))
    return Looked(headers, faults)


Found = list[PictureHeader | str]
"""A header per picture, or what is wrong with it."""


def _look(encoded: EncodedPictures, chunk: range, decode: bool) -> Found:
    read = examined if decode else header_of
    found: Found = []
    for row in chunk:
        name = encoded.name(row)
        try:
            with readable(name):
                found.append(read(encoded.read(row)))
        except UsageError as error:
            found.append(str(error).removeprefix(f"{name}: ").removesuffix("."))
    return found


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


def _begin(record: Path, encoded: EncodedPictures) -> dict[int, Found]:
    """What has been noted of these pictures; a record of others is begun anew."""
    identity, done = _identity(encoded), {}
    lines = record.read_text("utf-8").split("\n") if record.exists() else []
    whole = lines[:-1]  # what stands behind the last line end was cut off
    begin = json.dumps({"pictures": identity})
    if whole[:1] != [begin]:
        whole = [begin]
    for entry in map(json.loads, whole[1:]):
        done[entry["first"]] = [_from_json(found) for found in entry["found"]]
    record.parent.mkdir(parents=True, exist_ok=True)
    part = record.with_name(f"{record.name}.part")
    part.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")
    part.replace(record)
    return done


def _note(record: Path, chunk: range, found: Found) -> None:
    with record.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"first": chunk.start, "found": found}) + "\n")


def _from_json(found: Any) -> PictureHeader | str:
    if isinstance(found, str):
        return found
    size, *others = found
    return PictureHeader(tuple(size), *others)


def _identity(encoded: EncodedPictures) -> str:
    """Changes where a picture is added, renamed, or written again."""
    digest, stamps = hashlib.sha256(), {}
    for row in range(len(encoded)):
        name = encoded.name(row)
        digest.update(name.encode("utf-8", "surrogateescape"))
        file = encoded.file(row)
        if file not in stamps:
            stat = os.stat(file)
            stamps[file] = f"{stat.st_size} {stat.st_mtime_ns}"
        digest.update(stamps[file].encode())
    return digest.hexdigest()
