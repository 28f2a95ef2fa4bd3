"""Small data folders in the forms in which people have them, and what a reader makes of each.

A picture shows its own number n: its pixels are (10 n, 255 - 10 n, 40), so that rows can be told
apart whatever their order. ``style`` of picture n is a, b or c by n modulo 3; its caption is
"picture n".
"""

import csv
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image


class Row(NamedTuple):
    """What belongs to picture n."""

    n: int
    attributes: dict[str, str]
    caption: str | None


Expected = list[Row] | str
"""The rows, or words of the error."""


@dataclass(frozen=True)
class Numbering:
    """How many pictures, and what they are called."""

    count: int = 12
    name: str = "{}"
    first: int = 0

    @property
    def every(self) -> range:
        return range(self.count)

    def key(self, n: int) -> str:
        return self.name.format(n + self.first)


def style(n: int) -> str:
    return "abc"[n % 3]


def caption(n: int) -> str:
    return f"picture {n}"


def encoded(n: int, kind: str = "PNG") -> bytes:
    color = np.array([10 * n, 255 - 10 * n, 40], np.uint8)
    stream = io.BytesIO()
    options = {"quality": 100} if kind == "JPEG" else {}
    Image.fromarray(np.tile(color, (24, 24, 1))).save(stream, kind, **options)
    return stream.getvalue()


def number(image: np.ndarray) -> int:
    """Which picture is it?"""
    return round(int(image[12, 12, 0]) / 10)


def put(path: Path, data: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def loose(path: Path, at: Numbering, *, folders: bool = False, suffix: str = ".png") -> None:
    """Pictures as files of their own."""
    for n in at.every:
        folder = f"images/{style(n)}" if folders else "images"
        put(path / folder / f"{at.key(n)}{suffix}", encoded(n))


Member = tuple[str, bytes]


def tar(
    path: Path, members: Iterable[Member], change: Callable[[tarfile.TarInfo], Any] = id
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            change(info)
            file.addfile(info, io.BytesIO(data))


def sample(n: int, key: str, suffix: str = ".png") -> list[Member]:
    """A picture with its record and its caption."""
    return [
        (key + suffix, encoded(n)),
        (f"{key}.json", json.dumps({"style": style(n)}).encode()),
        (f"{key}.txt", caption(n).encode()),
    ]


def samples(at: Numbering, prefix: str = "", suffix: str = ".png") -> list[Member]:
    return [m for n in at.every for m in sample(n, prefix + at.key(n), suffix)]


def rows(at: Numbering, *, captions: bool = True, attributes: bool = True) -> list[Row]:
    return [
        Row(n, {"style": style(n)} if attributes else {}, caption(n) if captions else None)
        for n in at.every
    ]


def by_index(
    path: Path,
    at: Numbering,
    *,
    sign: str = ",",
    encoding: str = "utf-8",
    end: str = "\n",
    before: str = "",
    after: str = "",
    head: str | None = None,
) -> Expected:
    """Pictures and a table by index."""
    loose(path, at)
    lines = [head or f"index{sign}style", *(f"{n}{sign}{style(n)}" for n in at.every)]
    put(path / "attributes.csv", (before + end.join(lines) + end + after).encode(encoding))
    return rows(at, captions=False)


# Names


def table_names_files(path: Path, at: Numbering, folder: str = "") -> Expected:
    loose(path, at)
    lines = [f"{folder}{at.key(n)}.png,{style(n)}\n" for n in reversed(at.every)]
    put(path / "attributes.csv", "file_name,style\n" + "".join(lines))
    return rows(at, captions=False)


def metadata_jsonl(path: Path, at: Numbering) -> Expected:
    loose(path, at, folders=True)
    lines = [
        {"file_name": f"{style(n)}/{at.key(n)}.png", "text": caption(n), "style": style(n)}
        for n in reversed(at.every)
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    put(path / "images/metadata.jsonl", text)
    return rows(at)


def metadata_in_every_folder(path: Path, at: Numbering) -> Expected:
    loose(path, at, folders=True)
    for value in "abc":
        lines = [
            {"file_name": f"{at.key(n)}.png", "text": caption(n), "style": value}
            for n in at.every
            if style(n) == value
        ]
        put(
            path / f"images/{value}/metadata.jsonl",
            "\ufeff" + "\n\n".join(json.dumps(line) for line in lines),
        )
    return rows(at)


def metadata_csv(path: Path, at: Numbering) -> Expected:
    loose(path, at, suffix=".PNG")
    stream = io.StringIO()
    table = [[f"{at.key(n)}.PNG", caption(n), style(n)] for n in at.every]
    csv.writer(stream).writerows([["file_name", "text", "style"], *table])
    put(path / "images/metadata.csv", stream.getvalue())
    return rows(at)


def captions_beside(path: Path, at: Numbering, suffix: str = ".txt") -> Expected:
    loose(path, at)
    for n in at.every:
        put(path / f"images/{at.key(n)}{suffix}", caption(n) + "\n")
    return rows(at, attributes=False)


def records_beside(path: Path, at: Numbering) -> Expected:
    loose(path, at, folders=True)
    for n in at.every:
        record = {"style": style(n), "caption": caption(n), "boxes": [1, 2]}
        put(path / f"images/{style(n)}/{at.key(n)}.json", json.dumps(record))
    return rows(at)


def folder_a_class(path: Path, at: Numbering) -> Expected:
    loose(path, at, folders=True)
    return [Row(n, {"class": style(n)}, None) for n in at.every]


def table_and_captions(path: Path, at: Numbering) -> Expected:
    """Attributes by index, captions beside each picture."""
    by_index(path, at, sign=";", encoding="utf-8-sig", end="\r\n")
    captions_beside(path, at)
    return rows(at)


def leftovers(path: Path, at: Numbering) -> Expected:
    expected = by_index(path, at)
    for n in at.every:
        put(path / f"images/._{at.key(n)}.png", b"\0\5\26\7")
    for name in (".DS_Store", "Thumbs.db", "__MACOSX/._a.png", ".ipynb_checkpoints/a.png"):
        put(path / "images" / name, b"\0\0\0\1")
    return expected


def pictures_in_the_folder_itself(path: Path, at: Numbering) -> Expected:
    for n in at.every:
        put(path / f"{at.key(n)}.png", encoded(n))
        put(path / f"{at.key(n)}.txt", caption(n))
    put(path / "README.md", "mine")
    return rows(at, attributes=False)


# Shards


def packed(path: Path, at: Numbering, prefix: str = "", suffix: str = ".png") -> Expected:
    tar(path / "images/0.tar", samples(at, prefix, suffix))
    return rows(at)


def dots_last(path: Path, at: Numbering) -> Expected:
    tar(path / "images/0.tar", [m for n in at.every for m in sample(n, f"22.{n:02d}")])
    return rows(at)


def packed_leftovers(path: Path, at: Numbering) -> Expected:
    left = [(f"./._{at.key(n)}.png", b"\0\5\26\7") for n in at.every]
    tar(path / "images/0.tar", [*left, ("__MACOSX/x.png", b"x"), *samples(at, "./")])
    return rows(at)


def lacking(path: Path, at: Numbering, n: int, suffix: str) -> Expected:
    members = [m for m in samples(at) if m[0] != at.key(n) + suffix]
    tar(path / "images/0.tar", members)
    return f"0.tar:{at.key(n)}.png: has no "


def twice(path: Path, at: Numbering, again: int = 0) -> Expected:
    repeated = sample(3, at.key(3))[again]
    tar(path / "images/0.tar", [*samples(at), (f"./{repeated[0]}", repeated[1])])
    return repeated[0]


def img2dataset(path: Path, at: Numbering, silent: Sequence[int] = ()) -> Expected:
    members = []
    for n in at.every:
        text = None if n in silent else caption(n)
        record = {"caption": text, "url": f"x{n}", "key": f"{n:09d}", "status": "success"}
        record |= {"sha256": f"{n}", "width": 24, "height": 24, "exif": "{}", "punsafe": 0.01 * n}
        record |= {"error_message": None, "NSFW": "UNLIKELY"}
        members.append((f"{n:09d}.jpg", encoded(n, "JPEG")))
        members.append((f"{n:09d}.json", json.dumps(record).encode()))
        members.append((f"{n:09d}.txt", (text or "").encode()))
    tar(path / "images/00000.tar", members)
    put(path / "images/00000_stats.json", "{}")
    put(path / "images/00000.parquet", b"a table beside the shard")
    return f"{silent[0]:09d}.jpg: has no caption" if silent else rows(at, attributes=False)


def img2dataset_files(path: Path, at: Numbering) -> Expected:
    """Folders of shards in the data folder itself, a table beside each."""
    for n in at.every:
        folder = path / f"{n % 2:05d}"
        put(folder / f"{n:09d}.jpg", encoded(n, "JPEG"))
        put(folder / f"{n:09d}.txt", caption(n))
        put(folder / f"{n:09d}.json", json.dumps({"caption": caption(n), "url": f"x{n}"}))
    for shard in range(2):
        put(path / f"{shard:05d}.parquet", b"a table beside the shard")
        put(path / f"{shard:05d}_stats.json", "{}")
    return rows(at, attributes=False)


def tar_in_the_folder_itself(path: Path, at: Numbering) -> Expected:
    tar(path / "00000.tar", samples(at))
    return rows(at)


def capital_suffixes(path: Path, at: Numbering) -> Expected:
    """All of a companion's name in capitals."""
    members = [
        (name[:-4] + ".PNG" if name.endswith(".png") else name.upper(), data)
        for name, data in samples(at)
    ]
    tar(path / "images/0.tar", members)
    return rows(at)


def prompts_with_bom(path: Path, at: Numbering, after: str = "") -> Expected:
    loose(path, at)
    text = "".join(f"{caption(n)}\n" for n in at.every) + after
    put(path / "prompts.txt", text.encode("utf-8-sig"))
    return rows(at, attributes=False)


def cut_off(path: Path, at: Numbering) -> Expected:
    by_index(path, at)
    for n in at.every:
        (path / f"images/{at.key(n)}.png").unlink()
        data = encoded(n, "JPEG")
        put(path / f"images/{at.key(n)}.jpg", data[: len(data) // 2] if n == 7 else data)
    return f"{at.key(7)}.jpg: not a readable image"


Maker = Callable[[Path, Numbering], Expected]

CASES: dict[str, Maker] = {
    "names without zeros": by_index,
    "a table that names files": table_names_files,
    "a table that names files from its own folder": lambda p, at: table_names_files(
        p, at, "images/"
    ),
    "a table that names files by other folders": lambda p, at: table_names_files(p, at, "C:\\my\\"),
    "metadata.jsonl": metadata_jsonl,
    "metadata.jsonl in every folder": metadata_in_every_folder,
    "metadata.csv": metadata_csv,
    "a .txt beside each": captions_beside,
    "a .caption beside each": lambda p, at: captions_beside(p, at, ".caption"),
    "a .png.txt beside each": lambda p, at: captions_beside(p, at, ".png.txt"),
    "a .json beside each": records_beside,
    "a folder per class": folder_a_class,
    "a table and captions": table_and_captions,
    "leftovers": leftovers,
    "pictures in the folder itself": pictures_in_the_folder_itself,
    "tar": packed,
    "tar with ./": lambda p, at: packed(p, at, "./"),
    "tar with folders": lambda p, at: packed(p, at, "./some/folder.of mine/"),
    "tar with several parts of a name": lambda p, at: packed(p, at, suffix=".left.png"),
    "tar with dots in the key": dots_last,
    "tar with leftovers": packed_leftovers,
    "tar whose first has no caption": lambda p, at: lacking(p, at, 0, ".txt"),
    "tar where one has no caption": lambda p, at: lacking(p, at, 5, ".txt"),
    "tar whose first has no record": lambda p, at: lacking(p, at, 0, ".json"),
    "tar where one has no record": lambda p, at: lacking(p, at, 5, ".json"),
    "tar with a picture twice": twice,
    "tar with a record twice": lambda p, at: twice(p, at, 1),
    "tar with a caption twice": lambda p, at: twice(p, at, 2),
    "img2dataset": img2dataset,
    "img2dataset with a null caption": lambda p, at: img2dataset(p, at, (4,)),
    "img2dataset as files": img2dataset_files,
    "tar in the folder itself": tar_in_the_folder_itself,
    "tar with capital suffixes": capital_suffixes,
    "table with a byte order mark": lambda p, at: by_index(p, at, encoding="utf-8-sig"),
    "table in UTF-16": lambda p, at: by_index(p, at, sign="\t", encoding="utf-16"),
    "table with blanks": lambda p, at: by_index(p, at, sign="  "),
    "table with colons": lambda p, at: by_index(p, at, sign=":"),
    "table with remarks": lambda p, at: by_index(p, at, before="# mine\n# 2026\n"),
    "table with semicolons": lambda p, at: by_index(p, at, sign=";"),
    "table with tabs": lambda p, at: by_index(p, at, sign="\t"),
    "table with bars": lambda p, at: by_index(p, at, sign=" | "),
    "table that states its delimiter": lambda p, at: by_index(p, at, sign=";", before="sep=;\n"),
    "table with a blank last line": lambda p, at: by_index(p, at, after="\n"),
    "table with blank lines": lambda p, at: by_index(p, at, before="\n", after=",\n\n", end="\n\n"),
    "table with spaces": lambda p, at: by_index(p, at, sign=", "),
    "table from Windows": lambda p, at: by_index(p, at, end="\r\n", encoding="utf-8-sig"),
    "table from pandas": lambda p, at: by_index(p, at, head=",style"),
    "prompts with a byte order mark": prompts_with_bom,
    "prompts with blank lines at the end": lambda p, at: prompts_with_bom(p, at, "\n\n"),
    "a picture cut off": cut_off,
}
