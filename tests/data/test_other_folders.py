"""Names and archives that an end alone would take for others."""

import io
import os
import tarfile

import pytest

from ctrak_jax.data import read_folder
from ctrak_jax.data.folder.listing import Sidecars
from ctrak_jax.data.folder.names import NameIndex
from ctrak_jax.data.folder.tars import members
from ctrak_jax.errors import UsageError
from tests.data.samples import refused
from tests.data.wild import CASES, Numbering, encoded, put


def test_a_row_of_another_folder_takes_no_picture():
    assert NameIndex(["a/3.png", "a/4.png"]).find("b/3.png", common=1) == []
    assert NameIndex(["3.PNG"]).find("b/3.png", common=1) == [0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("3.png", [0]),
        ("3", [0]),
        ("9.png", [3]),
        ("4.png", []),
        ("5.png", []),
        ("5", []),
        ("val/4.png", [1]),
        ("mine/3.png", [0]),
        ("mine/5.png", []),
    ],
)
def test_a_name_without_folder_means_a_picture_below_the_table_s_folder(name, expected):
    index = NameIndex(["train/3.PNG", "val/4.png", "5.png", "train/x/9.png", "val/3.png"])
    assert index.find(name, "train/", common=int(name.startswith("mine"))) == expected


def test_a_table_in_a_folder_names_its_own_pictures(tmp_path):
    for n in range(4):
        put(tmp_path / f"images/{'train' if n < 2 else 'val'}/{n}.png", encoded(n))
    for part, numbers in (("train", (0, 1, 2)), ("val", (2, 3))):
        rows = "".join(f"{n}.png,{n}\n" for n in numbers)
        put(tmp_path / f"images/{part}/metadata.csv", f"file_name,n\n{rows}")
    assert "train/metadata.csv:4: names '2.png', and there is no such" in refused(tmp_path)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        ("1.5.png", "1.5.txt"),
        ("1.7.png", None),
        ("A.png", None),
        ("a.png", "a.txt"),
        ("B.PNG", "b.TXT"),
        ("c.png", None),
        ("d.png", "d.png.txt"),
    ],
)
def test_a_file_beside_is_that_of_the_whole_name(picture, expected):
    names = ("1.5.txt", "1.txt", "a.txt", "b.TXT", "C.txt", "C.TXT", "d.png.txt")
    pictures = ("1.5.png", "1.7.png", "A.png", "a.png", "B.PNG", "c.png", "d.png")
    sidecars = Sidecars(dict.fromkeys(names), pictures)
    assert sidecars.find(picture, ".txt") == expected


def test_in_a_tar_a_key_ends_at_the_first_dot():
    pictures = ("3.left.png", "3.right.png", "4.5.png")
    sidecars = Sidecars(dict.fromkeys(("3.txt", "4.5.txt", "4.txt")), pictures, packed=True)
    assert [sidecars.find(p, ".txt") for p in pictures] == ["3.txt", "3.txt", "4.5.txt"]


@pytest.mark.parametrize("place", ["", "images", "images/a"])
@pytest.mark.parametrize("lines", [2, 3])
def test_lines_of_captions_are_never_passed_over(tmp_path, place, lines):
    for n in range(2):
        put(tmp_path / f"images/a/{n}.png", encoded(n))
    put(tmp_path / place / "Prompts.txt", "".join(f"{n}\n" for n in range(lines)))
    if lines == 2:
        assert read_folder(tmp_path).prompts == ("0", "1")
    else:
        assert "Prompts.txt: 3 lines for 2 images" in refused(tmp_path)


def test_the_tree_is_walked_once(tmp_path, monkeypatch):
    expected = CASES["pictures in the folder itself"](tmp_path, Numbering(3))
    scanned, plain = [], os.scandir

    def scandir(folder):
        scanned.append(str(folder))
        return plain(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert len(read_folder(tmp_path).prompts) == len(expected)
    assert scanned == [str(tmp_path)]


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
