"""Pictures in webdataset tars, read where they are.

A tar holds, for every item, a picture ``key.jpg`` (or .png, .webp), and optionally ``key.json``, an
object of attribute values, and ``key.txt``, a caption. What opening reads is the index and the
labels.
"""

import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ctrak_jax.data.folder.shards import Shards, as_text, line
from ctrak_jax.data.pictures import SUFFIXES, Files
from ctrak_jax.data.reading import decoded, json_object
from ctrak_jax.errors import UsageError


class TarMember(NamedTuple):
    """A file in a tar: where its bytes are."""

    tar: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.tar}:{self.name}"

    def read_bytes(self) -> bytes:
        try:
            with self.tar.open("rb") as file:
                file.seek(self.offset)
                data = file.read(self.size)
        except OSError as error:
            raise UsageError(f"{self.tar}: {error.strerror}.") from None
        if len(data) != self.size:
            raise UsageError(f"{self}: got {len(data)} bytes, expected {self.size}; cut off?")
        return data


def read_tars(files: Sequence[Path], *, labels: bool, captions: bool) -> Shards:
    """The index of webdataset tars: shard by shard in the given order, by name within a shard.

    Args:
        labels: read attributes from ``key.json``; else they are somewhere else.
        captions: read captions from ``key.txt``; likewise.

    Raises:
        UsageError: a tar is damaged or compressed, there is no picture, or an item has no
            attributes or caption where the first has them.
    """
    pictures: list[TarMember] = []
    beside: dict[str, TarMember] = {}
    for file in files:
        members = _index(file)
        pictures += [m for m in members if PurePosixPath(m.name).suffix.lower() in SUFFIXES]
        beside |= {str(m): m for m in members if m.name.endswith((".json", ".txt"))}
    if not pictures:
        raise UsageError(f"{files[0].parent}: its .tar files hold no {', '.join(SUFFIXES)}.")
    attributes: dict[str, tuple[str, ...]] = {}
    if labels:
        items = [_values(m) for m in _companions(pictures, beside, ".json")]
        attributes = _columns(items, [str(m) for m in pictures])
    texts = _companions(pictures, beside, ".txt") if captions else []
    prompts = tuple(line(decoded(m.read_bytes(), m)) for m in texts)
    return Shards(Files(pictures), attributes, prompts)


def _index(file: Path) -> list[TarMember]:
    try:
        with tarfile.open(file, "r:") as tar:
            found = [TarMember(file, m.name, m.offset_data, m.size) for m in tar if m.isreg()]
    except (tarfile.TarError, OSError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(
            f"{file}: not a readable tar file ({reason}); a compressed one must be unpacked."
        ) from None
    return sorted(found, key=lambda m: m.name)


def _companions(
    pictures: Sequence[TarMember], beside: Mapping[str, TarMember], suffix: str
) -> list[TarMember]:
    """The file of that suffix beside every picture; nothing where the first has none."""
    names = [f"{m.tar}:{PurePosixPath(m.name).with_suffix(suffix)}" for m in pictures]
    if names[0] not in beside:
        return []
    for name, member in zip(names, pictures, strict=True):
        if name not in beside:
            raise UsageError(f"{member}: no {suffix} beside it, but beside the first picture.")
    return [beside[name] for name in names]


def _values(member: TarMember) -> dict[str, str]:
    """The attributes of a .json: its text, numbers and truth values, as text."""
    found = json_object(member.read_bytes(), member, '{"style": "voxel"}')
    return {name: as_text(v) for name, v in found.items() if isinstance(v, str | int | float)}


def _columns(
    items: Sequence[Mapping[str, str]], names: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    if not items:
        return {}
    for name, item in zip(names, items, strict=True):
        lacking = [attribute for attribute in items[0] if attribute not in item]
        if lacking:
            raise UsageError(
                f"{name}: its .json has no value of {lacking[0]!r}, which the first picture's has; "
                "every item must have every attribute."
            )
    return {name: tuple(item[name] for item in items) for name in items[0]}
