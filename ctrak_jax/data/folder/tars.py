"""Files in webdataset tars, read where they are; nothing is unpacked.

Refused: a member that is a link, names a place outside the archive, or stands there twice.
"""

import tarfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ctrak_jax.data.folder.names import is_leftover
from ctrak_jax.data.reading import read_error
from ctrak_jax.errors import UsageError


class TarMember(NamedTuple):
    """A file in a tar: where its bytes are. ``name`` is without a leading ``./``."""

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
            raise read_error(self.tar, error) from None
        if len(data) != self.size:
            raise UsageError(f"{self}: got {len(data)} bytes, expected {self.size}; cut off?")
        return data


def members(file: Path) -> list[TarMember]:
    """The files in a tar but the leftovers, by their name in the archive.

    Raises:
        UsageError: the tar is damaged or compressed, or a member is refused; names both.
    """
    try:
        with tarfile.open(file, "r:") as tar:
            found = sorted((info.name, member) for info in tar if (member := _member(file, info)))
            _require_end(file, tar.offset)
    except (tarfile.TarError, OSError, EOFError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(
            f"{file}: not a readable tar file ({reason}); a compressed one must be unpacked."
        ) from None
    known: set[str] = set()
    for _, member in found:
        if member.name in known:
            raise UsageError(f"{member}: stands twice in the archive; remove one.")
        known.add(member.name)
    return [member for _, member in found]


def _require_end(file: Path, offset: int) -> None:
    """tarfile takes a damaged header after the first for the end; only zeros are one."""
    with file.open("rb") as whole:
        whole.seek(offset)
        if whole.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"damaged or cut off at byte {offset:,}")


def _member(file: Path, info: tarfile.TarInfo) -> TarMember | None:
    """A member as it is read; None for folders and leftovers."""
    name = _plain(info.name)
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        raise UsageError(f"{file}:{info.name}: names a place outside the archive; pack it anew.")
    if info.isdir() or is_leftover(name):
        return None
    if not info.isreg() or info.issparse():
        raise UsageError(
            f"{file}:{info.name}: is a link or no plain file, which is not followed; pack the "
            "files themselves (tar --dereference --hard-dereference)."
        )
    return TarMember(file, name, info.offset_data, info.size)


def _plain(name: str) -> str:
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name
