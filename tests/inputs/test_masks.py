"""Pictures of masks."""

import numpy as np
import pytest
from PIL import Image

from ctrak_jax.errors import UsageError
from ctrak_jax.inputs.masks import content, fitted, mask_files, read_mask

SIZE = (6, 4)
"""Height and width."""


def write(file, mask: np.ndarray) -> None:
    Image.fromarray(mask.astype(np.uint8)).save(file)


def test_white_is_one_black_is_none_and_grey_counts_in_part(tmp_path):
    mask = np.zeros((*SIZE, 3))
    mask[:3], mask[3, 0] = 255, 51
    write(tmp_path / "m.png", mask)
    np.testing.assert_allclose(read_mask(tmp_path / "m.png", (*SIZE, 3)), mask[..., 0] / 255)


def test_what_is_transparent_is_outside(tmp_path):
    mask = np.zeros((*SIZE, 4))
    mask[..., :3], mask[:3, :, 3], mask[3, :, 3] = 255, 255, 51
    write(tmp_path / "m.png", mask)
    np.testing.assert_allclose(read_mask(tmp_path / "m.png", (*SIZE, 3)), mask[..., 3] / 255)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.zeros(SIZE), "all black"),
        (np.full((4, 6), 255), "is 6 x 4 pixels, the image 4 x 6"),
        (None, "not a readable image"),
    ],
)
def test_what_is_no_mask_is_refused_in_one_line(tmp_path, mask, words):
    file = tmp_path / "m.png"
    if mask is None:
        file.write_text("no picture")
    else:
        write(file, mask)
    with pytest.raises(UsageError, match=words) as caught:
        read_mask(file, (*SIZE, 3))
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_at_the_resolution_of_latents_a_mask_is_the_mean_over_their_pixels():
    mask = np.random.default_rng(0).uniform(size=(8, 12)).astype(np.float32)
    means = mask.reshape(4, 2, 4, 3).mean((1, 3))
    np.testing.assert_allclose(fitted(mask, (4, 4, 16)), means, atol=1e-6)
    np.testing.assert_array_equal(fitted(mask, (8, 12, 3)), mask)


def test_a_folder_of_masks_by_query_and_part(tmp_path):
    assert mask_files(None) == []
    for name in ("b-00@hat.png", "a-00@left.PNG", "a-00@a.webp"):
        write(tmp_path / name, np.full(SIZE, 255))
    (tmp_path / "notes.txt").write_text("painted by hand")
    (tmp_path / "._b-00@hat.png").write_text("left by a system")
    files = mask_files(tmp_path)
    assert [file.name for file in files] == ["a-00@a.webp", "a-00@left.PNG", "b-00@hat.png"]
    before = content(files)
    write(tmp_path / "b-00@hat.png", np.full(SIZE, 254))
    changed = {name for name, found in content(files).items() if found != before[name]}
    assert changed == {"b-00@hat.png"}


@pytest.mark.parametrize("name", ["a-00.png", "@left.png", "a-00@.png", "a-00@on the left.png"])
def test_a_mask_of_no_query_is_named(tmp_path, name):
    write(tmp_path / name, np.full(SIZE, 255))
    with pytest.raises(UsageError, match="expected the id of a query image, @ and a name"):
        mask_files(tmp_path)


def test_a_folder_without_masks_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        mask_files(tmp_path / "none")
    with pytest.raises(UsageError, match="holds no picture"):
        mask_files(tmp_path)


def test_two_masks_of_one_name_are_refused(tmp_path):
    for name in ("a-00@left.png", "a-00@left.webp"):
        write(tmp_path / name, np.full(SIZE, 255))
    with pytest.raises(UsageError, match=r"a-00@left.webp: another file is called so"):
        mask_files(tmp_path)
