"""Names and archives that an end alone would take for others."""

import io
import tarfile

import pytest

from ctrak_jax.data.folder.names import NameIndex
from ctrak_jax.data.folder.tars import members
from ctrak_jax.errors import UsageError


def test_a_row_of_another_folder_takes_no_picture():
    assert NameIndex(["a/3.png", "a/4.png"]).find("b/3.png", common=1) == []
    assert NameIndex(["3.PNG"]).find("b/3.png", common=1) == [0]


@pytest.fixture
def tar(tmp_path):
    """Four members of a header and a block each."""
    file = tmp_path / "whole.tar"
    with tarfile.open(file, "w") as archive:
        for number in range(4):
            info = tarfile.TarInfo(f"{number}.png")
            info.size = 10
            archive.addfile(info, io.BytesIO(bytes(range(10))))
    assert len(members(file)) == 4
    return file


def test_a_damaged_header_in_the_middle_is_refused(tar):
    content = bytearray(tar.read_bytes())
    content[1024 + 5] ^= 255  # in the name of the second member
    tar.write_bytes(content)
    with pytest.raises(UsageError, match=r"damaged or cut off at byte 1,024"):
        members(tar)


def test_a_tar_that_ends_between_members_is_refused(tar):
    tar.write_bytes(tar.read_bytes()[:2048])
    with pytest.raises(UsageError, match=r"damaged or cut off at byte 2,048"):
        members(tar)
