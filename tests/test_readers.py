"""Readers of pictures: any folder, CelebA-HQ's files, webdataset tars, Parquet; all read lazily."""

import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from ctrak_jax import cli
from ctrak_jax import config as cfg
from ctrak_jax.config import load
from ctrak_jax.data import TrainingBatches, build, read_folder, shards, write_folder
from ctrak_jax.data.celeba import LAYOUTS, read_celeba
from ctrak_jax.data.dataset import to_unit
from ctrak_jax.data.pictures import Files, Pictures
from ctrak_jax.data.raw import RawImages
from ctrak_jax.errors import UsageError

COUNT = 7
STYLES = ("pixel", "voxel")


def picture(i: int, size: tuple[int, int] = (12, 10)) -> np.ndarray:
    """A picture that tells which one it is: noise by number, [height, width, 3]."""
    return np.random.default_rng(i).integers(0, 256, (size[1], size[0], 3), np.uint8)


def encoded(image: np.ndarray, kind: str = "png") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind)
    return stream.getvalue()


PICTURES = np.stack([picture(i) for i in range(COUNT)])
VALUES = [{"style": STYLES[i % 2], "count": i % 3, "real": i > 3} for i in range(COUNT)]
ATTRIBUTES = {
    "style": tuple(str(v["style"]) for v in VALUES),
    "count": tuple(str(v["count"]) for v in VALUES),
    "real": tuple("true" if v["real"] else "false" for v in VALUES),
}


def refused(path: Path, **options) -> str:
    with pytest.raises(UsageError) as caught:
        read_folder(path, **options).images[:]
    message = str(caught.value)
    assert message.splitlines() == [message], "a message is one line"
    return message


# Pictures by row


def files(tmp_path: Path, suffix: str = ".png", **options) -> Pictures:
    for i in range(COUNT):
        Image.fromarray(PICTURES[i]).save(tmp_path / f"{i}{suffix}")
    return Pictures(Files([tmp_path / f"{i}{suffix}" for i in range(COUNT)]), **options)


@pytest.mark.parametrize(
    "key",
    [
        3,
        -1,
        slice(2, 5),
        slice(None),
        np.array([4, 0, 4, 6]),
        np.array([], np.int64),
        np.arange(COUNT) % 2 == 0,
        np.array([[1, 2], [6, 0]]),
    ],
    ids=str,
)
def test_pictures_are_indexed_like_the_array(tmp_path, key):
    found = files(tmp_path)
    assert (found.shape, len(found), found.dtype, found.ndim) == (PICTURES.shape, COUNT, "u1", 4)
    np.testing.assert_array_equal(found[key], PICTURES[key], strict=True)


def test_a_row_that_is_not_there_is_an_index_error(tmp_path):
    with pytest.raises(IndexError):
        files(tmp_path)[COUNT]


def test_nothing_is_decoded_before_it_is_asked_for(tmp_path, monkeypatch):
    found = files(tmp_path)
    decoded = []
    plain = Pictures._decode

    def counted(self, row):
        decoded.append(row)
        return plain(self, row)

    monkeypatch.setattr(Pictures, "_decode", counted)
    (tmp_path / "5.png").write_bytes(b"broken later")
    np.testing.assert_array_equal(found[[2, 0]], PICTURES[[2, 0]])
    assert sorted(decoded) == [0, 2]
    with pytest.raises(UsageError, match=r"5\.png: not a readable image"):
        found[5]


@pytest.mark.parametrize("size", [(40, 24), (24, 40), (24, 24), (9, 6)], ids=str)
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_the_centred_square_is_what_is_resized(tmp_path, size, suffix):
    """Red left, green middle, blue right (or upright): of a picture wider than high the middle."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    side, edge = min(size), (max(size) - min(size)) // 2
    image[:, :, 1] = 255
    if width > height:
        image[:, :edge], image[:, edge + side :] = (255, 0, 0), (0, 0, 255)
    else:
        image[:edge], image[edge + side :] = (255, 0, 0), (0, 0, 255)
    Image.fromarray(image).save(tmp_path / f"a{suffix}", quality=100, subsampling=0)
    found = Pictures(Files([tmp_path / f"a{suffix}"]), side=8)[0]
    assert found.shape == (8, 8, 3)
    inside = found[1:-1, 1:-1].astype(int)
    assert np.abs(inside - [0, 255, 0]).max() < 40


def test_resizing_averages(tmp_path):
    """A linear ramp stays one: its value at the centre of every larger pixel."""
    ramp = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8)[None, :, None], (64, 64, 3))
    Image.fromarray(np.ascontiguousarray(ramp)).save(tmp_path / "a.png")
    found = Pictures(Files([tmp_path / "a.png"]), side=8)[0]
    np.testing.assert_allclose(found[4, 1:-1, 0], 14 + 32 * np.arange(1, 7), atol=1)


def test_the_fingerprint_follows_the_bytes_and_the_side(tmp_path):
    (tmp_path / "images").mkdir()
    files(tmp_path / "images")
    rows = "".join(f"{i},{v}\n" for i, v in enumerate(ATTRIBUTES["style"]))
    (tmp_path / "attributes.csv").write_text(f"index,style\n{rows}")

    def fingerprint(**changes):
        return build(
            cfg.DataConfig(kind="folder", path=tmp_path, condition_on=("style",), **changes)
        ).fingerprint

    first = fingerprint()
    assert fingerprint() == first
    resized = {fingerprint(resize=True, image_size=side) for side in (8, 10)}
    Image.fromarray(PICTURES[0]).save(tmp_path / "images" / "3.png")
    assert len({first, *resized, fingerprint()}) == 4


def test_batches_are_the_same_decoded_or_in_memory(tmp_path):
    (tmp_path / "images").mkdir()
    files(tmp_path / "images")
    rows = "".join(f"{i},{v}\n" for i, v in enumerate(ATTRIBUTES["style"]))
    (tmp_path / "attributes.csv").write_text(f"index,style\n{rows}")
    data = cfg.DataConfig(kind="folder", path=tmp_path, condition_on=("style",))
    write_folder(build(data).raw, tmp_path / "array")
    arrays = data.model_copy(update={"path": tmp_path / "array"})
    lazy, mapped = (TrainingBatches(build(d), batch=3, seed=1)(2, 4) for d in (data, arrays))
    np.testing.assert_array_equal(lazy.x0, mapped.x0)
    np.testing.assert_array_equal(lazy.cond, mapped.cond)
    assert lazy.x0.shape == (4, 3, 10, 12, 3)


# Any folder


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


def test_two_kinds_of_images_are_refused(tmp_path):
    write_tars(tmp_path)
    Image.fromarray(PICTURES[0]).save(tmp_path / "images" / "a.png")
    assert "1 pictures and 2 tars; keep one kind" in refused(tmp_path)


# Webdataset tars


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


def test_the_files_beside_them_win(tmp_path):
    def spoil(members):
        members.update({"0000.json": b"{"} if "0000.json" in members else {})
        members.pop("0006.txt", None)

    write_tars(tmp_path, spoil)
    rows = "".join(f"{i},{i}\n" for i in range(COUNT))
    (tmp_path / "attributes.csv").write_text(f"index,number\n{rows}")
    (tmp_path / "prompts.txt").write_text("p\n" * COUNT)
    found = read_folder(tmp_path)
    assert found.attributes == {"number": tuple(map(str, range(COUNT)))}
    assert found.prompts == ("p",) * COUNT


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
    "no json at all": (
        lambda members: [members.pop(n) for n in list(members) if n.endswith(".json")],
        ("attributes.csv", "index,"),
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


# Parquet


def write_parquet(tmp_path: Path, change=lambda columns: None, *, struct: bool = False) -> Path:
    """Two files with row groups of two; ``change`` edits the columns of the second before."""
    pa = pytest.importorskip("pyarrow", reason="needs the extra parquet")
    (tmp_path / "images").mkdir(exist_ok=True)
    for name, rows in (("a.parquet", range(4)), ("b.parquet", range(4, COUNT))):
        data = [encoded(PICTURES[i]) for i in rows]
        image = [{"bytes": d, "path": "x.png"} for d in data] if struct else data
        columns = {"image": image, "caption": [f"number {i}" for i in rows]}
        columns |= {key: [VALUES[i][key] for i in rows] for key in VALUES[0]}
        columns["score"] = [0.5 for _ in rows]
        if name == "b.parquet":
            change(columns)
        pa.parquet.write_table(pa.table(columns), tmp_path / "images" / name, row_group_size=2)
    return tmp_path


@pytest.fixture(autouse=True)
def _parquet_module():
    pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")


@pytest.mark.parametrize("struct", [False, True])
def test_parquet_brings_pictures_attributes_and_captions(tmp_path, struct):
    found = read_folder(write_parquet(tmp_path, struct=struct))
    np.testing.assert_array_equal(found.images[:], PICTURES)
    for i in (5, 0, 3, 6):
        np.testing.assert_array_equal(found.images[i], PICTURES[i])
    assert found.attributes == ATTRIBUTES, "numbers with a fraction are no attributes"
    assert found.prompts == tuple(f"number {i}" for i in range(COUNT))


def test_a_batch_reads_each_row_group_once(tmp_path, monkeypatch):
    from pyarrow.parquet import ParquetFile

    monkeypatch.setattr(shards, "CACHED_ROW_GROUPS", 1)
    images = read_folder(write_parquet(tmp_path)).images
    read, plain = [], ParquetFile.read_row_group

    def counted(self, number, **options):
        assert options == {"columns": ["image"]}
        read.append(number)
        return plain(self, number, **options)

    monkeypatch.setattr(ParquetFile, "read_row_group", counted)
    rows = np.array([6, 0, 5, 1, 4, 0])
    np.testing.assert_array_equal(images[rows], PICTURES[rows])
    assert len(read) == 1 + 1 + 1, "rows 0 and 1, 4 and 5, 6"


PARQUET = {
    "no image column": (lambda c: c.pop("image"), ("b.parquet", "'image'")),
    "image of text": (lambda c: c.update(image=["x"] * 3), ("b.parquet", "'image'", "binary")),
    "a column missing": (lambda c: c.pop("style"), ("b.parquet", "'style'", "a.parquet")),
    "a value null": (
        lambda c: c.update(style=["voxel", None, "pixel"]),
        ("b.parquet", "'style'", "row 1"),
    ),
    "an image null": (
        lambda c: c.update(image=[c["image"][0], None, c["image"][2]]),
        ("b.parquet", "row 1 of row group 0", "no image bytes"),
    ),
    "an image broken": (
        lambda c: c.update(image=[*c["image"][:2], b"x"]),
        ("b.parquet", "row 0 of row group 1", "readable image"),
    ),
}


@pytest.mark.parametrize(("change", "words"), PARQUET.values(), ids=PARQUET.keys())
def test_what_is_wrong_with_parquet_is_one_clear_line(tmp_path, change, words):
    message = refused(write_parquet(tmp_path, change))
    assert all(word in message for word in words), message


def test_the_files_beside_parquet_win(tmp_path):
    """What they replace is not looked at: here a null in an attribute and in a caption."""

    def spoil(columns):
        columns.update(style=[None, "a", "b"], caption=["a", None, "b"])

    write_parquet(tmp_path, spoil)
    rows = "".join(f"{i},{i}\n" for i in range(COUNT))
    (tmp_path / "attributes.csv").write_text(f"index,number\n{rows}")
    (tmp_path / "prompts.txt").write_text("p\n" * COUNT)
    found = read_folder(tmp_path)
    np.testing.assert_array_equal(found.images[:], PICTURES)
    assert found.attributes == {"number": tuple(map(str, range(COUNT)))}
    assert found.prompts == ("p",) * COUNT


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    write_parquet(tmp_path)
    (tmp_path / "images" / "b.parquet").write_bytes(b"no table" * 30)
    assert "b.parquet: not a readable Parquet file" in refused(tmp_path)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    write_parquet(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'ctrak-jax[parquet]'" in refused(tmp_path)


# CelebA-HQ

FACES = {"Eyeglasses": "1-1-11-1", "Male": "11-1-1-1", "Smiling": "1-11-11"}
"""Values of five pictures, one after the other."""


def write_celeba(path: Path, layout=LAYOUTS[0], edit=lambda lines: None) -> Path:
    """The layout of the distribution, with two blanks after a picture's name."""
    values = [v.replace("-1", "n").replace("1", "y") for v in FACES.values()]
    (path / layout.pictures).mkdir(parents=True)
    for i in range(5):
        shade = np.full((32, 40, 3), 40 * i + 20, np.uint8)
        Image.fromarray(shade).save(path / layout.pictures / f"{9 - i}.jpg", quality=95)
    lines = ["5", " ".join(FACES) + " "]
    for i in range(5):
        row = " ".join("1" if v[i] == "y" else "-1" for v in values)
        lines.append(f"{9 - i}.jpg  {row}")
    edit(lines)
    (path / layout.table).write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.pictures)
def test_celeba_is_read_in_the_order_of_its_table(tmp_path, layout):
    found = read_celeba(write_celeba(tmp_path / "faces", layout), side=8)
    assert found.images.shape == (5, 8, 8, 3)
    np.testing.assert_allclose(found.images[:][:, 4, 4, 0], 40 * np.arange(5) + 20, atol=2)
    assert found.attributes["Eyeglasses"] == ("yes", "no", "no", "yes", "no")
    assert found.attributes["Smiling"] == ("yes", "no", "yes", "no", "yes")
    assert set(found.vocabulary.values()) == {("no", "yes")}
    assert "non-commercial" in found.meta["licence"]


def test_the_shipped_celeba_config_reads_the_layout(tmp_path):
    path = Path(__file__).parents[1] / "configs" / "celeba_hq.yaml"
    shipped = load(path)
    names = shipped.data.condition_on
    rows = [["1" if (i >> n) % 2 else "-1" for n in range(len(names))] for i in range(2**5)]
    folder = tmp_path / LAYOUTS[0].pictures
    folder.mkdir()
    lines = [str(len(rows)), " ".join(names)]
    for i, row in enumerate(rows):
        Image.new("RGB", (70, 70), (i, 0, 0)).save(folder / f"{i}.jpg")
        lines.append(f"{i}.jpg  {' '.join(row)}")
    (tmp_path / LAYOUTS[0].table).write_text("\n".join(lines) + "\n")
    data = build(load(path, {"data.path": str(tmp_path)}).data)
    assert data.image_shape == (shipped.data.image_size,) * 2 + (3,)
    out = sorted(set(range(len(rows))) - set(data.train_index.tolist()))
    assert out
    for i in range(len(rows)):
        values = {name: "yes" if v == "1" else "no" for name, v in zip(names, rows[i], strict=True)}
        held = any(set(c.items()) <= set(values.items()) for c in shipped.data.hold_out)
        assert held == (i in out)


def changed(place: int, text: str):
    def edit(lines: list[str]) -> None:
        lines[place] = text

    return edit


CELEBA = {
    "count wrong": (changed(0, "6"), ("anno.txt", "5 rows", "says 6")),
    "no count": (changed(0, "Eyeglasses"), ("anno.txt:1", "number of pictures")),
    "a value missing": (changed(3, "8.jpg -1 1"), ("anno.txt:4", "2 values", "3 values")),
    "another value": (changed(3, "8.jpg -1 0 1"), ("anno.txt:4", "'0'")),
    "no such picture": (changed(4, "99.jpg 1 1 1"), ("99.jpg: missing", "anno.txt:5")),
    "an attribute twice": (changed(1, "Male Male Smiling"), ("anno.txt:2", "'Male'")),
    "empty": (lambda lines: lines.clear(), ("anno.txt:1",)),
}


@pytest.mark.parametrize(("edit", "words"), CELEBA.values(), ids=CELEBA.keys())
def test_what_is_wrong_with_celeba_is_one_clear_line(tmp_path, edit, words):
    write_celeba(tmp_path / "faces", edit=edit)
    with pytest.raises(UsageError) as caught:
        read_celeba(tmp_path / "faces", side=8)
    message = str(caught.value)
    assert message.splitlines() == [message]
    assert all(word in message for word in words), message


def test_a_folder_without_the_layout_names_both(tmp_path):
    with pytest.raises(UsageError, match=r"CelebAMask-HQ-attribute-anno\.txt.*img_align_celeba"):
        read_celeba(tmp_path, side=8)
    write_celeba(tmp_path / "faces")
    for file in (tmp_path / "faces" / LAYOUTS[0].pictures).iterdir():
        file.unlink()
    (tmp_path / "faces" / LAYOUTS[0].pictures).rmdir()
    with pytest.raises(UsageError, match="CelebA-HQ-img: no such folder"):
        read_celeba(tmp_path / "faces", side=8)


def test_ctrak_data_decodes_a_set_once_for_all(tmp_path, capsys):
    write_celeba(tmp_path / "faces")
    (tmp_path / "some.yaml").write_text(
        "data: {kind: celeba, image_size: 16, condition_on: [Male, Smiling], "
        f"path: '{tmp_path / 'faces'}'}}\nquery: {{check: none}}\n"
    )
    out = tmp_path / "decoded"
    assert cli.main(["data", str(tmp_path / "some.yaml"), "--out", str(out)]) == 0
    lazy, decoded = read_celeba(tmp_path / "faces", side=16), read_folder(out)
    np.testing.assert_array_equal(decoded.images, lazy.images[:])
    assert decoded.attributes == lazy.attributes
    data = cfg.DataConfig(kind="folder", path=out, condition_on=("Male",))
    np.testing.assert_array_equal(build(data).train_images(), to_unit(lazy.images[:]))
