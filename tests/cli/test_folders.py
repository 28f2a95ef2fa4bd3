"""A bad folder of images exits with 2, and the line names the file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ctrak_jax.config import load
from ctrak_jax.data import build, write_folder
from tests.cli.small import write_config

Damage = Callable[[Path], object]
COUNT, SIDE = 8, 16


def pictures(folder: Path) -> list[Path]:
    """The images as PNG files in place of images.npy."""
    images = np.load(folder / "images.npy")
    (folder / "images.npy").unlink()
    (folder / "images").mkdir()
    files = [folder / "images" / f"{i:06d}.png" for i in range(len(images))]
    for file, image in zip(files, images, strict=True):
        Image.fromarray(image).save(file)
    return files


def array(change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    def damage(folder: Path) -> None:
        np.save(folder / "images.npy", change(np.load(folder / "images.npy")))

    return damage


def with_nan(images: np.ndarray) -> np.ndarray:
    images = images.astype(np.float32)
    images[5, 2, 2, 1] = np.nan
    return images


def replaced(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def edited(name: str, change: Callable[[bytes], bytes]) -> Damage:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def picture(change: Callable[[bytes], bytes]) -> Damage:
    def damage(folder: Path) -> None:
        file = pictures(folder)[3]
        file.write_bytes(change(file.read_bytes()))

    return damage


def other_size(folder: Path) -> None:
    Image.new("RGB", (SIDE + 1, SIDE)).save(pictures(folder)[3])


def no_pictures(folder: Path) -> None:
    for file in pictures(folder):
        file.unlink()


def bad_tar(folder: Path) -> None:
    no_pictures(folder)
    (folder / "images" / "a.tar").write_bytes(b"no tar file" * 100)


def zipped(folder: Path) -> None:
    with (folder / "images.npy").open("wb") as file:
        np.savez(file, images=np.zeros((COUNT, SIDE, SIDE, 3), np.uint8))


def flipped(content: bytes, at: bytes, ahead: int) -> bytes:
    """One byte changed, some way behind a chunk's name."""
    place = content.index(at) + ahead
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


FOLDERS: dict[str, tuple[Damage, str, str]] = {
    "no images": (lambda f: (f / "images.npy").unlink(), "images.npy", "images/"),
    "no attributes": (lambda f: (f / "attributes.csv").unlink(), "attributes.csv", "index"),
    "an image too many": (
        array(lambda a: np.concatenate([a, a[:1]])),
        "attributes.csv",
        "9 images",
    ),
    "an image too few": (array(lambda a: a[1:]), "attributes.csv", "7 images"),
    "no image at all": (array(lambda a: a[:0]), "attributes.csv", "0 images"),
    "NaN": (array(with_nan), "images.npy", "image 5"),
    "floats": (array(lambda a: a / np.float32(255)), "float32", "uint8"),
    "integers": (array(lambda a: a.astype(np.int64)), "int64", "uint8"),
    "booleans": (array(lambda a: a > 3), "bool", "uint8"),
    "gray": (array(lambda a: a[..., 0]), "(8, 16, 16)", "[N, H, W, 3]"),
    "channels first": (array(lambda a: a.transpose(0, 3, 1, 2)), "(8, 3, 16, 16)", "[N, H, W, 3]"),
    "RGBA": (array(lambda a: a[..., [0, 1, 2, 2]]), "(8, 16, 16, 4)", "[N, H, W, 3]"),
    "one image": (array(lambda a: a[0]), "(16, 16, 3)", "[N, H, W, 3]"),
    "objects": (
        lambda f: np.save(f / "images.npy", np.array([{}]), allow_pickle=True),
        "images.npy",
        "",
    ),
    "images.npy cut off": (edited("images.npy", lambda b: b[:700]), "images.npy", ""),
    "images.npy of text": (replaced("images.npy", b"no array at all"), "images.npy", ""),
    "images.npy empty": (replaced("images.npy", b""), "images.npy", ""),
    "images.npy zipped": (zipped, "images.npy", ""),
    "PNG cut off": (picture(lambda b: b[:-30]), "000003.png", "image"),
    "PNG cut off early": (picture(lambda b: b[:20]), "000003.png", "image"),
    "PNG empty": (picture(lambda b: b""), "000003.png", "image"),
    "PNG of text": (picture(lambda b: b"no picture"), "000003.png", "image"),
    "PNG data flipped": (picture(lambda b: flipped(b, b"IDAT", 8)), "000003.png", "image"),
    "PNG size flipped": (picture(lambda b: flipped(b, b"IHDR", 7)), "000003.png", "image"),
    "PNG chunk flipped": (picture(lambda b: flipped(b, b"IDAT", 1)), "000003.png", "image"),
    "PNG of another size": (other_size, "000003.png", "17 x 16"),
    "no PNG": (no_pictures, "images", "holds no"),
    "a bad tar": (bad_tar, "a.tar", "tar"),
    "table empty": (replaced("attributes.csv", b""), "attributes.csv", "index,"),
    "table without header": (
        edited("attributes.csv", lambda b: b.split(b"\n", 1)[1]),
        "attributes.csv",
        "index,",
    ),
    "table without attributes": (
        replaced("attributes.csv", b"index\n" + b"".join(b"%d\n" % i for i in range(8))),
        "attributes.csv",
        "index,",
    ),
    "a value missing": (
        edited(
            "attributes.csv",
            lambda b: b.replace(b"3,circle,", b"3,", 1).replace(b"3,triangle,", b"3,", 1),
        ),
        "attributes.csv:5",
        "index 3",
    ),
    "an index wrong": (
        edited("attributes.csv", lambda b: b.replace(b"\n3,", b"\n4,", 1)),
        "attributes.csv:5",
        "index 3",
    ),
    "table not text": (replaced("attributes.csv", b"index,a\n0,\xff\xfe\n"), "attributes.csv", ""),
    "prompts too few": (replaced("prompts.txt", b"a\nb\n"), "prompts.txt", "2 lines"),
    "prompts not text": (replaced("prompts.txt", b"\xff\n" * 8), "prompts.txt", ""),
    "meta no JSON": (replaced("meta.json", b"{"), "meta.json", "JSON"),
    "meta a list": (replaced("meta.json", b"[1]"), "meta.json", ""),
}


@pytest.fixture
def images(tmp_path) -> Path:
    path = tmp_path / "images-of-mine"
    write_folder(build(load(None, {"data.size": str(COUNT)}).data).raw, path)
    return path


def folder_config(tmp_path: Path, images: Path) -> Path:
    data = {"kind": "folder", "path": str(images)}
    return write_config(tmp_path, data=data, query={"check": "none"})


@pytest.mark.parametrize(("damage", "word", "other"), FOLDERS.values(), ids=FOLDERS.keys())
def test_a_bad_folder_exits_with_2_and_names_the_file(ctrak, tmp_path, images, damage, word, other):
    damage(images)
    status, line, _ = ctrak("train", folder_config(tmp_path, images))
    assert status == 2
    assert str(images) in line
    assert word in line
    assert other in line


def test_a_missing_folder_exits_with_2(ctrak, tmp_path):
    status, line, _ = ctrak("train", folder_config(tmp_path, tmp_path / "none"))
    assert status == 2
    assert str(tmp_path / "none") in line
