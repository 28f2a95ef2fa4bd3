"""Pictures by name: which files count, in which order, and which one a table means.

Names are relative to the folder of the pictures, with ``/`` between folders.
"""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any

LEFTOVERS = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin"}
"""What operating systems leave in folders and archives, beside names that begin with a dot."""
RUN = (
    *({".stages"}, {"config.yaml", "log.jsonl"}, {"config.yaml", "model"}),
    {"faults.csv", "pictures.jsonl"},
)
"""Names that together show that a run or a check wrote the folder."""
HASH = re.compile(r"[0-9a-f]{8,}(-[0-9a-f]+)*", re.IGNORECASE)


def is_leftover(name: str) -> bool:
    """Is a file passed over: hidden (``._0.png``, ``.DS_Store``), or of an operating system?"""
    parts = PurePosixPath(name).parts
    return any(part.startswith(".") or part.casefold() in LEFTOVERS for part in parts)


def walk(folder: Path, but: str = "") -> list[str]:
    """The files anywhere below a folder but the leftovers and the folders of runs, sorted as text.

    Args:
        but: a sub-folder that is left out, in any case of letters.
    """
    found = _files(folder, "", set(), but)
    return sorted(found)


def _files(folder: Path, prefix: str, above: set[str], but: str = "") -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder that it stands in
        return
    with os.scandir(folder) as entries:
        found = list(entries)
    if prefix and any({entry.name for entry in found} >= names for names in RUN):
        return
    for entry in found:
        if is_leftover(entry.name):
            continue
        if entry.is_dir() and entry.name.casefold() == but:
            continue
        if entry.is_dir():
            yield from _files(Path(entry.path), f"{prefix}{entry.name}/", above | {real})
        elif entry.is_file():
            yield prefix + entry.name


def counted(names: Sequence[str]) -> list[int]:
    """The order in which people count: 2 before 10, folder by folder. Where the names without
    folders are all hexadecimal hashes, these hold no numbers and are sorted as text.

    Returns:
        The places of the names, in order.
    """
    stems = [PurePosixPath(name).name.partition(".")[0] for name in names]
    hashes = all(map(HASH.fullmatch, stems)) and not all(stem.isdecimal() for stem in stems)

    def key(place: int) -> tuple[Any, ...]:
        *folders, last = names[place].split("/")
        name = [(0, last)] if hashes else _counting(last)
        return [*map(_counting, folders), name], names[place]

    return sorted(range(len(names)), key=key)


def _counting(name: str) -> list[tuple[int, str]]:
    """A key by pieces of text and of number in turn; numbers by how many digits and which, since
    names of strangers have more than ``int`` takes."""
    pieces = re.split(r"([0-9]+)", name)
    pieces[1::2] = (piece.lstrip("0") for piece in pieces[1::2])
    return [(len(piece) * (odd % 2), piece) for odd, piece in enumerate(pieces)]


class NameIndex:
    """Which picture a table means by a name."""

    def __init__(self, names: Sequence[str]) -> None:
        self._folded = [_folded(name) for name in names]
        self._by_tail: dict[str, list[int]] = defaultdict(list)
        self._by_stem: dict[str, list[int]] = defaultdict(list)
        self._whole: dict[str, list[int]] = defaultdict(list)
        self._whole_stem: dict[str, list[int]] = defaultdict(list)
        self._exact: dict[str, list[int]] = defaultdict(list)
        for row, name in enumerate(names):
            self._exact[_composed(name)].append(row)
            whole = self._folded[row]
            self._whole[whole].append(row)
            self._whole_stem[whole.rpartition(".")[0]].append(row)
            parts = whole.split("/")
            for first in range(len(parts)):
                tail = "/".join(parts[first:])
                self._by_tail[tail].append(row)
                self._by_stem[tail.rpartition(".")[0]].append(row)

    def find(self, name: str, folder: str = "", common: int = 0) -> list[int]:
        """The pictures that a name may mean: the one that it spells; else those whose name ends
        with it, in any case of letters; else those whose name does so without its suffix. A name
        without a folder means a picture below the table's. Without the folders that all names share
        it must be a picture's whole name: its end may be another's in another folder.

        Args:
            folder: of the table, ending with ``/``; names may be relative to it.
            common: how many leading folders all names of the table share; they may lie above the
                pictures' folder.
        """
        parts = parts_of(name)
        rests = ["/".join(parts[first:]) for first in range(common + 1)]
        if found := _first(self._exact, _composed(folder), rests):
            return found
        below, folded = _folded(folder), [_folded(rest) for rest in rests]
        for tails, wholes in ((self._by_tail, self._whole), (self._by_stem, self._whole_stem)):
            ends = tails.get(folded[0], [])
            inside = [row for row in ends if self._folded[row].startswith(below)]
            if found := inside or (ends if "/" in folded[0] else []):
                return found
            if found := _first(wholes, below, folded[1:]):
                return found
        return []


def _first(rows: Mapping[str, list[int]], folder: str, names: Sequence[str]) -> list[int]:
    """The rows of the first name that has any: in a folder, or from the top if it has a folder."""
    places = (
        place for name in names for place in (folder + name, name if "/" in name else folder + name)
    )
    return next((found for place in places if (found := rows.get(place))), [])


def parts_of(name: str) -> list[str]:
    """The folders and the name of a file as a table writes it."""
    written = _composed(name.strip().replace("\\", "/"))
    return [part for part in written.split("/") if part not in ("", ".")]


def common_folders(names: Sequence[str]) -> int:
    """How many leading folders all names share."""
    folders = [parts_of(name)[:-1] for name in names]
    return shared(folders)


def shared(paths: Sequence[Sequence[str]]) -> int:
    """With how many pieces all paths begin alike."""
    return len(list(takewhile(lambda pieces: len(set(pieces)) == 1, zip(*paths, strict=False))))


def _composed(name: str) -> str:
    """One form for letters with marks: macOS writes them in two pieces."""
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return _composed(name).casefold()
