"""Pictures by row: decoded when they are asked for."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ctrak_jax import config as cfg
from ctrak_jax.data import TrainingBatches, build, pictures, write_folder
from ctrak_jax.data.pictures import Files, Pictures
from ctrak_jax.errors import UsageError
from tests.data.samples import ATTRIBUTES, COUNT, PICTURES


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


@pytest.mark.parametrize(("kept", "times"), [(PICTURES.nbytes, 1), (PICTURES.nbytes - 1, 2)])
def test_pictures_that_fit_are_decoded_once(tmp_path, monkeypatch, kept, times):
    monkeypatch.setattr(pictures, "KEPT_BYTES", kept)
    found, decoded = files(tmp_path), []
    plain = found._decode
    monkeypatch.setattr(found, "_decode", lambda row: decoded.append(row) or plain(row))
    for _ in range(2):
        copy = found[[3, 1]]
        np.testing.assert_array_equal(copy, PICTURES[[3, 1]])
        copy[:] = 0  # whoever was given pixels may change them
    assert sorted(decoded) == sorted([1, 3] * times)


def test_the_sizes_of_pictures_are_those_of_their_files(tmp_path):
    width, height = PICTURES.shape[2], PICTURES.shape[1]
    Image.new("RGB", (30, 20)).save(tmp_path / "large.png")
    paths = [tmp_path / "0.png", tmp_path / "large.png", tmp_path / "1.png"]
    files(tmp_path)
    assert Pictures(Files(paths), side=8).sizes() == {(width, height): 2, (30, 20): 1}


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
