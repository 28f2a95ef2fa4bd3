"""The pictures of a folder, by name, with the files that stand beside them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ctrak_jax.data.folder.names import counted
from ctrak_jax.data.folder.parquet import read_parquet
from ctrak_jax.data.folder.tars import members
from ctrak_jax.data.pictures import SUFFIXES, EncodedPictures, Files
from ctrak_jax.errors import UsageError

KINDS = {"pictures": SUFFIXES, "tars": (".tar",), "Parquet files": (".parquet",)}
"""What may hold the pictures, and how their names end."""
PACKED = (".zip", ".tgz", ".tbz", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
PACKED += (".7z", ".rar")
"""Archives that would have to be unpacked: leaving one out would lose its pictures."""
NOT_SIDECARS = frozenset(
    (
        *("readme", "license", "licence", "notice", "notes", "info", "classes", "dataset"),
        *("dataset_info", "requirements", "meta", "metadata", "attributes"),
    )
)
"""Names of files that belong to no picture, where there is none of that name."""


class Sidecars:
    """Files beside pictures, found by the names of the pictures."""

    def __init__(
        self, files: Mapping[str, Any], pictures: Sequence[str] = (), *, packed: bool = False
    ) -> None:
        """
        Args:
            files: name -> what its bytes are read from; all files but pictures.
            pictures: their names.
            packed: they are in tars.
        """
        self._exact: dict[tuple[str, str], str] = {}
        self._folded: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._files, self._packed = files, packed
        self._said: set[str] = set()
        self._stems: dict[str, set[str]] = defaultdict(set)
        for stem in (stem for picture in pictures for stem in self._stems_of(picture)):
            self._stems[stem.casefold()].add(stem)
        for name in files:
            stem, dot, suffix = name.rpartition(".")
            key = (stem, (dot + suffix).lower())
            self._exact[key] = name
            self._folded[(stem.casefold(), key[1])].append(name)

    def find(self, picture: str, suffix: str) -> str | None:
        """The name of the file of that suffix which belongs to a picture: ``3.png.txt``, ``3.txt``;
        in a tar of ``3.left.png`` also ``3.txt``, whose key ends at the first dot. In another case
        of letters where that means one picture and one file."""
        for stem in self._stems_of(picture):
            if found := self._exact.get((stem, suffix)):
                return found
            folded = self._folded.get((stem.casefold(), suffix), [])
            if len(folded) == 1 == len(self._stems[stem.casefold()]):
                return folded[0]
        return None

    def _stems_of(self, picture: str) -> tuple[str, ...]:
        folder, slash, name = picture.rpartition("/")
        key = (folder + slash + name.partition(".")[0],) if self._packed else ()
        return tuple(dict.fromkeys((picture, picture.rpartition(".")[0], *key)))

    def read(self, name: str) -> Any:
        """What the bytes of a file are read from."""
        self._said.add(name)
        return self._files[name]

    def unread(self) -> list[Any]:
        """The files that were not read, and that do not belong where :meth:`others` looked."""
        return [file for name, file in self._files.items() if name not in self._said]

    def others(self, used: set[str], suffix: str) -> list[Any]:
        """The files of a suffix that belong to no picture but should: they stand where used ones
        do."""
        folders = {name.rpartition("/")[0] for name in used}
        found = [
            name
            for name in self._files
            if name.lower().endswith(suffix)
            and name not in used
            and name.rpartition("/")[0] in folders
            and not _stands_alone(name)
        ]
        self._said.update(found)
        return [self._files[name] for name in found]


def _stands_alone(name: str) -> bool:
    stem = PurePosixPath(name).stem.casefold()
    return stem in NOT_SIDECARS or stem.endswith("_stats")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The pictures of a folder by row.

    Attributes:
        names: relative to the folder, in a tar as ``0.tar/3.png``; None where rows have no names.
        sidecars: the files beside the pictures.
        folders: the sub-folder of each picture, in a tar the member's; none where there are none.
        sharded: a tool chose the sub-folders: pictures are in tars, or a table stands beside each.
        table: of Parquet files, the columns beside the pictures.
    """

    encoded: EncodedPictures
    names: tuple[str, ...] | None = None
    sidecars: Sidecars = field(default_factory=lambda: Sidecars({}))
    folders: tuple[str, ...] = ()
    sharded: bool = False
    table: Mapping[str, Sequence[Any]] | None = None


def list_pictures(folder: Path, names: Sequence[str], *, by_place: bool) -> Listing:
    """The pictures among files below a folder: files of their own, in tars, or in Parquet files.

    They are in the order in which people count; those in tars in the order of text, unless
    something is joined to them by place.

    Args:
        names: of the files, sorted as text; tables and lines of captions are not among them.
        by_place: rows of a table or lines of a text are joined to pictures by their order.

    Raises:
        UsageError: there is no picture, several kinds, an archive that must be unpacked, or one
            that cannot be read.
    """
    packed = [name for name in names if name.lower().endswith(PACKED)]
    if packed:
        raise UsageError(f"{folder / packed[0]}: is a packed archive; unpack it there.")
    kinds = {
        kind: [name for name in names if name.lower().endswith(suffixes)]
        for kind, suffixes in KINDS.items()
    }
    # img2dataset writes a table 00000.parquet beside each 00000.tar, or beside each folder 00000.
    shards = {name.lower().removesuffix(".tar") for name in kinds["tars"]}
    shards |= {name.lower().rpartition("/")[0] for name in kinds["pictures"]}
    tables = {n for n in kinds["Parquet files"] if n.lower().removesuffix(".parquet") in shards}
    kinds["Parquet files"] = [name for name in kinds["Parquet files"] if name not in tables]
    used = tables.union(*kinds.values())
    others = {name: folder / name for name in names if name not in used}
    match [(kind, found) for kind, found in kinds.items() if found]:
        case [("pictures", found)]:
            return replace(_loose(folder, others, found), sharded=bool(tables))
        case [("tars", found)]:
            return _tars(folder, others, found, by_place)
        case [(_, found)]:
            encoded, table = read_parquet([folder / found[place] for place in counted(found)])
            return Listing(encoded=encoded, table=table, sidecars=Sidecars(others))
        case []:
            raise UsageError(f"{folder}: holds no {', '.join(SUFFIXES)}, .tar or .parquet file.")
        case several:
            mixed = " and ".join(f"{len(found)} {kind}" for kind, found in several)
            raise UsageError(f"{folder}: holds {mixed}; keep one kind.")


def _loose(folder: Path, others: Mapping[str, Path], pictures: Sequence[str]) -> Listing:
    ordered = [pictures[place] for place in counted(pictures)]
    return Listing(
        encoded=Files([folder / name for name in ordered]),
        names=tuple(ordered),
        sidecars=Sidecars(others, ordered),
        folders=tuple(name.rpartition("/")[0] for name in ordered),
    )


def _tars(folder: Path, others: Mapping[str, Path], tars: Sequence[str], by_place: bool) -> Listing:
    found = {f"{tar}/{m.name}": m for tar in tars for m in members(folder / tar)}
    names = [name for name in found if name.lower().endswith(SUFFIXES)]
    if not names:
        raise UsageError(f"{folder}: its .tar files hold no {', '.join(SUFFIXES)}.")
    beside = {name: member for name, member in found.items() if not name.lower().endswith(SUFFIXES)}
    if by_place:
        names = [names[place] for place in counted(names)]
    return Listing(
        encoded=Files([found[name] for name in names]),
        names=tuple(names),
        sidecars=Sidecars({**others, **beside}, names, packed=True),
        folders=tuple(found[name].name.rpartition("/")[0] for name in names),
        sharded=True,
    )
