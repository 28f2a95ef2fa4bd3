"""Webdataset tars: their pictures, attributes and captions."""

import io
import json
import tarfile
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from ctrak_jax.data import read_folder
from ctrak_jax.errors import UsageError
from tests.data.samples import (
    ATTRIBUTES,
    COUNT,
    PICTURES,
    VALUES,
    encoded,
    refused,
)


def write_tars(
    tmp_path: Path, change=lambda members: None, *, mode: Literal["w:", "w:gz"] = "w:"
) -> Path:
    """Two shards, a picture, a .json and a .txt an item; ``change`` edits them before."""
    (tmp_path / "images").mkdir(exist_ok=True)
    for shard, rows in (("00.tar", range(4)), ("01.tar", range(4, COUNT))):
        members: dict[str, bytes] = {}
        for i in reversed(rows):
            members[f"{i:04d}.txt"] = f"a {VALUES[i]['style']}\n portrait\n".encode()
            members[f"{i:04d}.json"] = json.dumps({**VALUES[i], "box": [1, 2]}).encode()
            members[f"{i:04d}.jpg" if i == 5 else f"{i:04d}.png"] = encoded(PICTURES[i])
        change(members)
        with tarfile.open(tmp_path / "images" / shard, mode) as tar:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return tmp_path


def test_tars_bring_pictures_attributes_and_captions(tmp_path):
    found = read_folder(write_tars(tmp_path))
    np.testing.assert_array_equal(found.images[:], PICTURES)
    np.testing.assert_array_equal(found.images[np.array([6, 0, 6])], PICTURES[[6, 0, 6]])
    assert found.attributes == ATTRIBUTES, "lists are no attributes"
    assert found.prompts == tuple(f"a {v['style']} portrait" for v in VALUES)


def test_captions_alone_are_enough(tmp_path):
    def captions(members):
        for name in [name for name in members if name.endswith(".json")]:
            members.pop(name)

    found = read_folder(write_tars(tmp_path, captions))
    assert found.attributes == {}
    assert len(found.prompts) == COUNT


def write_beside(tmp_path: Path, prompts) -> None:
    rows = "".join(f"{i},{i}\n" for i in range(COUNT))
    (tmp_path / "attributes.csv").write_text(f"index,number\n{rows}")
    (tmp_path / "prompts.txt").write_text("".join(f"{line}\n" for line in prompts))


def test_attributes_are_those_of_the_table_beside_them(tmp_path):
    """A caption that is missing here is there."""

    def spoil(members):
        members.pop("0006.txt", None)

    prompts = tuple(f"a {v['style']}  portrait" for v in VALUES)
    write_beside(write_tars(tmp_path, spoil), prompts)
    found = read_folder(tmp_path)
    assert found.attributes == {"number": tuple(map(str, range(COUNT)))}
    assert found.prompts == prompts, "as they are written, and blanks are no other caption"
    assert set(read_folder(tmp_path, wanted=("style",)).attributes) == {"number", "style"}


def test_another_caption_beside_them_is_refused(tmp_path):
    write_beside(write_tars(tmp_path), ["p"] * COUNT)
    message = refused(tmp_path)
    for word in ("prompts.txt:1", "'p'", "00.tar:0000.txt", "a pixel portrait", "6 more"):
        assert word in message, message


def dropped(name: str):
    return lambda members: members.pop(name, None)


def put(name: str, content: bytes):
    return lambda members: members.update({name: content}) if name in members else None


TARS = {
    "no json of one": (dropped("0002.json"), ("00.tar:0002.png", ".json")),
    "no caption of one": (dropped("0006.txt"), ("01.tar:0006.png", ".txt")),
    "json broken": (put("0003.json", b"{"), ("00.tar:0003.json", "not valid JSON")),
    "json a list": (put("0003.json", b"[1]"), ("00.tar:0003.json", "got a list", "object")),
    "json not text": (put("0003.json", b"\xff"), ("00.tar:0003.json", "UTF-8")),
    "an attribute missing": (
        put("0004.json", b'{"style": "voxel", "count": 1}'),
        ("01.tar:0004.png", "'real'"),
    ),
    "an attribute null": (
        put("0004.json", b'{"style": null, "count": 1, "real": true}'),
        ("01.tar:0004.png", "'style'"),
    ),
    "picture broken": (put("0001.png", b"no picture"), ("00.tar:0001.png", "readable image")),
    "pictures alone": (
        lambda members: [members.pop(n) for n in list(members) if n.endswith((".json", ".txt"))],
        ("neither attributes nor captions", "attributes.csv"),
    ),
    "no picture": (lambda members: members.clear(), ("images", ".tar files hold no .png")),
}


@pytest.mark.parametrize(("change", "words"), TARS.values(), ids=TARS.keys())
def test_what_is_wrong_with_a_tar_is_one_clear_line(tmp_path, change, words):
    message = refused(write_tars(tmp_path, change))
    assert all(word in message for word in words), message


def test_a_compressed_or_shortened_tar_is_refused(tmp_path):
    write_tars(tmp_path, mode="w:gz")
    assert "00.tar: not a readable tar file" in refused(tmp_path)
    images = read_folder(write_tars(tmp_path)).images
    tar = tmp_path / "images" / "00.tar"
    tar.write_bytes(tar.read_bytes()[:3000])
    assert "00.tar" in refused(tmp_path)
    with pytest.raises(UsageError, match=r"00\.tar:\d+\.png: got \d+ bytes, expected \d+"):
        images[:4]


def test_two_kinds_of_images_are_refused(tmp_path):
    write_tars(tmp_path)
    Image.fromarray(PICTURES[0]).save(tmp_path / "images" / "a.png")
    assert "1 pictures and 2 tars; keep one kind" in refused(tmp_path)
