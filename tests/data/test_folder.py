"""Folders of images: what is read is what was written."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from ctrak_jax import config as cfg
from ctrak_jax.data import (
    build,
    read_folder,
    write_folder,
)
from ctrak_jax.data.raw import RawImages
from ctrak_jax.errors import UsageError
from tests.data.samples import ATTRIBUTES, PICTURES, drawn, refused, write_attributes


def test_a_folder_reads_as_it_was_written(tmp_path):
    raw = drawn(size=9)
    write_folder(raw, tmp_path / "set")
    found = read_folder(tmp_path / "set")
    np.testing.assert_array_equal(found.images, raw.images)
    assert found.attributes == raw.attributes
    assert (found.name, found.meta["licence"]) == (raw.name, "CC0-1.0")


def test_values_of_any_text_survive_the_folder(tmp_path):
    values = ("plain", 'a "quoted", one', "two\nlines", " spaced ", "größe", "NULL", "NA")
    raw = RawImages(
        name="odd", images=drawn(size=7).images, attributes={"style": values, "a,b": values[::-1]}
    )
    write_folder(raw, tmp_path)
    assert read_folder(tmp_path).attributes == raw.attributes


def test_a_folder_trains_like_the_drawn_set(tmp_path):
    direct = build(cfg.DataConfig(size=16))
    write_folder(direct.raw, tmp_path)
    data = build(cfg.DataConfig(kind="folder", path=tmp_path))
    np.testing.assert_array_equal(data.train_images(), direct.train_images())
    assert data.train_values == direct.train_values
    assert data.conditions.vocabulary == {"shape": ("circle", "triangle"), "color": ("blue", "red")}


def test_pictures_are_read_in_the_order_of_their_names(tmp_path):
    raw = drawn(size=5)
    (tmp_path / "images").mkdir()
    for i in (3, 0, 4, 1, 2):
        Image.fromarray(raw.images[i]).save(tmp_path / "images" / f"{i:06d}.png")
    (tmp_path / "images" / "notes.txt").write_text("not a picture")
    write_attributes(tmp_path, raw)
    found = read_folder(tmp_path)
    np.testing.assert_array_equal(found.images, raw.images)
    assert found.name == tmp_path.name


@pytest.mark.parametrize("mode", ["RGBA", "P", "L"])
def test_pictures_of_other_modes_become_rgb(tmp_path, mode):
    gray = np.full((8, 8, 3), 130, np.uint8)
    gray[2:5] = 40
    (tmp_path / "images").mkdir()
    picture = Image.fromarray(gray).convert(mode, palette=Image.Palette.ADAPTIVE)
    assert picture.mode == mode
    picture.save(tmp_path / "images" / "0.png")
    (tmp_path / "attributes.csv").write_text("index,tone\n0,gray\n")
    np.testing.assert_array_equal(read_folder(tmp_path).images, gray[None])


def test_tar_shards_are_read_in_the_order_of_their_names(tmp_path):
    raw = drawn(size=6)
    (tmp_path / "images").mkdir()
    for shard, members in (("b.tar", (5, 3, 4)), ("a.tar", (1, 0, 2))):
        with tarfile.open(tmp_path / "images" / shard, "w") as tar:
            for i in members:
                picture = io.BytesIO()
                Image.fromarray(raw.images[i]).save(picture, "png")
                for name, content in ((f"{i:06d}.png", picture.getvalue()), (f"{i:06d}.cls", b"1")):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    write_attributes(tmp_path, raw)
    np.testing.assert_array_equal(read_folder(tmp_path).images, raw.images)


def test_one_prompt_an_image(tmp_path):
    write_folder(drawn(size=4), tmp_path)
    (tmp_path / "prompts.txt").write_text("a\nb\nc\nd\n")
    read_folder(tmp_path)
    (tmp_path / "prompts.txt").write_text("a\u2028x\r\nb\x0by\nc\n\n", newline="")
    assert read_folder(tmp_path).prompts == ("a\u2028x", "b\x0by", "c", "")
    (tmp_path / "prompts.txt").write_text("a\nb\nc\n")
    with pytest.raises(UsageError, match=r"prompts\.txt: 3 lines for 4 images"):
        read_folder(tmp_path)


@pytest.mark.parametrize("meta", [{"name": "mine", "licence": "CC0-1.0"}, {}, {"year": 2026}])
def test_meta_is_kept(tmp_path, meta):
    write_folder(drawn(size=4), tmp_path)
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    found = read_folder(tmp_path)
    assert {name: str(value) for name, value in found.meta.items()} == {
        name: str(value) for name, value in meta.items()
    }
    assert found.name == meta.get("name", tmp_path.name)


def test_an_attribute_given_twice_is_refused(tmp_path):
    """Which of the two columns is meant?"""
    write_folder(drawn(size=4), tmp_path)
    table = tmp_path / "attributes.csv"
    table.write_text(table.read_text().replace("shape,color", "shape,shape", 1))
    with pytest.raises(UsageError, match=r"attributes\.csv.*shape"):
        read_folder(tmp_path)


def test_any_names_and_formats_are_read_in_the_order_of_their_names(tmp_path):
    (tmp_path / "images").mkdir()
    names = ("10 b.PNG", "a.webp", "c.jpeg", "Zoë.jpg")
    for name in names:
        image = Image.new("RGB", (8, 8), (10 * len(name), 0, 0))
        image.save(tmp_path / "images" / name, quality=100)
    (tmp_path / "attributes.csv").write_text("index,a\n0,x\n1,x\n2,x\n3,x\n")
    found = read_folder(tmp_path).images[:][:, 4, 4, 0].astype(int)
    np.testing.assert_allclose(found, [10 * len(name) for name in sorted(names)], atol=3)


def test_pictures_of_several_sizes_need_resize(tmp_path):
    (tmp_path / "images").mkdir()
    for i, size in enumerate([(20, 16), (16, 30)]):
        Image.new("RGB", size, (50, 100, 150)).save(tmp_path / "images" / f"{i}.png")
    (tmp_path / "attributes.csv").write_text("index,a\n0,x\n1,y\n")
    message = refused(tmp_path)
    assert "1.png: is 16 x 30 pixels, the first image is 20 x 16" in message
    assert "data.resize" in message
    assert read_folder(tmp_path, side=8).images.shape == (2, 8, 8, 3)


def test_images_npy_is_not_resized(tmp_path):
    write_folder(RawImages(name="a", images=PICTURES, attributes=ATTRIBUTES), tmp_path)
    assert "images.npy: data.resize" in refused(tmp_path, side=8)
