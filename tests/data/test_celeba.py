"""CelebA-HQ as it is distributed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ctrak_jax import cli
from ctrak_jax import config as cfg
from ctrak_jax.config import load
from ctrak_jax.data import build, read_folder
from ctrak_jax.data.celeba import LAYOUTS, read_celeba
from ctrak_jax.data.dataset import to_unit
from ctrak_jax.data.survey import Handling
from ctrak_jax.errors import UsageError
from tests.paths import ROOT

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


@pytest.mark.parametrize("layout", LAYOUTS[:2], ids=lambda layout: layout.pictures)
def test_celeba_is_read_in_the_order_of_its_table(tmp_path, layout):
    found = read_celeba(write_celeba(tmp_path / "faces", layout), side=8)
    assert found.images.shape == (5, 8, 8, 3)
    np.testing.assert_allclose(found.images[:][:, 4, 4, 0], 40 * np.arange(5) + 20, atol=2)
    assert found.attributes["Eyeglasses"] == ("yes", "no", "no", "yes", "no")
    assert found.attributes["Smiling"] == ("yes", "no", "yes", "no", "yes")
    assert set(found.vocabulary.values()) == {("no", "yes")}
    assert "non-commercial" in found.meta["licence"]


@pytest.mark.parametrize("inner", ["", "img_align_celeba"])
def test_celeba_is_read_as_kaggle_has_it(tmp_path, inner):
    plain = read_celeba(write_celeba(tmp_path / "faces", LAYOUTS[1]), side=8)

    def with_commas(lines):
        lines[:] = [f"image_id,{','.join(FACES)}", *(",".join(row.split()) for row in lines[2:])]

    kaggle = write_celeba(tmp_path / "kaggle", LAYOUTS[2], with_commas)
    pictures = kaggle / LAYOUTS[2].pictures
    pictures.rename(kaggle / "moved")
    pictures.mkdir()
    (kaggle / "moved").rename(pictures / (inner or "any"))
    found = read_celeba(kaggle, side=8)
    np.testing.assert_array_equal(found.images[:], plain.images[:])
    assert found.attributes == plain.attributes


def test_a_picture_of_celeba_without_its_row_is_incomplete(tmp_path):
    path = write_celeba(tmp_path / "faces")
    pictures = path / LAYOUTS[0].pictures
    (pictures / "77.jpg").write_bytes((pictures / "8.jpg").read_bytes())
    (pictures / "README.md").write_text("mine")
    with pytest.raises(UsageError, match=r"77\.jpg: has no row in .*anno\.txt; complete"):
        read_celeba(path, side=8)
    found = read_celeba(path, side=8, handling=Handling(incomplete="skip"))
    assert len(found.images) == 5
    assert [fault.name for fault in found.skipped] == [str(pictures / "77.jpg")]


def test_single_bad_pictures_of_celeba_are_left_out(tmp_path):
    path = write_celeba(tmp_path / "faces")
    pictures = path / LAYOUTS[0].pictures
    (pictures / "8.jpg").unlink()
    (pictures / "6.jpg").write_bytes((pictures / "6.jpg").read_bytes()[:400])
    skip = Handling(incomplete="skip", bad_pictures="skip")
    with pytest.raises(UsageError, match=r"8\.jpg: missing"):
        read_celeba(path, side=8, handling=replace(skip, incomplete="refuse"))
    with pytest.raises(UsageError, match=r"6\.jpg: not a readable image"):
        read_celeba(path, side=8, handling=replace(skip, bad_pictures="refuse"))
    found = read_celeba(path, side=8, handling=skip)
    np.testing.assert_allclose(found.images[:][:, 4, 4, 0], [20, 100, 180], atol=2)
    assert found.attributes["Eyeglasses"] == ("yes", "no", "no")
    assert [fault.name.rpartition("/")[2] for fault in found.skipped] == ["8.jpg", "6.jpg"]


def test_two_pictures_of_one_name_are_refused(tmp_path):
    path = write_celeba(tmp_path / "faces")
    pictures = path / LAYOUTS[0].pictures
    for folder, name in (("a", "README.txt"), ("b", "README.txt"), ("a", "7.jpg")):
        (pictures / folder).mkdir(exist_ok=True)
        (pictures / folder / name).write_bytes((pictures / "8.jpg").read_bytes())
    with pytest.raises(UsageError) as caught:
        read_celeba(path, side=8)
    assert f"{pictures / '7.jpg'} and {pictures / 'a/7.jpg'}: " in str(caught.value)
    (pictures / "a/7.jpg").unlink()
    assert len(read_celeba(path, side=8).images) == 5


def test_the_shipped_celeba_config_reads_the_layout(tmp_path):
    path = ROOT / "configs" / "celeba_hq.yaml"
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
