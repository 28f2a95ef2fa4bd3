"""The photographs: what tint and style do to a patch, how patches are cut, whose they are."""

import json
from colorsys import rgb_to_hsv
from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
import pytest
from PIL import Image

from benchmarks import photographs
from benchmarks.photographs import FRAME, LEVELS, MOTIFS, SIZE, STYLES, TINTS, cut, develop
from ctrak_jax.data import read_folder
from ctrak_jax.errors import UsageError


@pytest.fixture
def patch() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE))
    return Image.fromarray(noise.astype(np.uint8))


def test_patches_differ_and_are_stretched_to_all_of_the_scale():
    noise = np.random.default_rng(0).integers(100, 150, (20, 20)).astype(np.uint8)
    photo = Image.fromarray(noise).resize((300, 200), Image.Resampling.NEAREST)
    with pytest.raises(RuntimeError, match="contrast"):
        cut(photo, (60, 100), np.random.default_rng(0))
    photo = photo.point(lambda light: 5 * (light - 100))
    found = [np.asarray(cut(photo, (60, 100), np.random.default_rng(seed))) for seed in range(8)]
    assert len({image.tobytes() for image in found}) == 8
    assert all(image.min() == 0 and image.max() == 255 for image in found)


@pytest.mark.parametrize("tint", TINTS)
def test_the_hue_is_the_tints_in_every_style(patch, tint):
    hue, saturation, _ = rgb_to_hsv(*TINTS[tint])
    for style in STYLES:
        mean = develop(patch, tint, style).mean((0, 1))
        found = rgb_to_hsv(*mean)
        assert found[0] == pytest.approx(hue, abs=0.02)
        assert (found[1] > 0.2) == (saturation > 0)


def test_styles(patch):
    plain, framed, blurred, posterized = (develop(patch, "blue", style) for style in STYLES)
    inner = (slice(FRAME, -FRAME),) * 2
    assert (plain[inner] == framed[inner]).all()
    edge = framed.copy()
    edge[inner] = edge[0, 0]
    assert (edge == edge[0, 0]).all()
    assert np.diff(blurred.astype(int), axis=0).std() < np.diff(plain.astype(int), axis=0).std() / 2
    assert len(np.unique(posterized.reshape(-1, 3), axis=0)) == LEVELS


def test_without_the_package_one_line_says_what_to_install(tmp_path, monkeypatch):
    def missing(name: str):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(photographs, "distribution", missing)
    with pytest.raises(UsageError, match="pip install --no-deps scikit-image"):
        photographs.draw_photographs(tmp_path / "out")


def test_the_folder_holds_every_combination_the_same_again(tmp_path):
    try:
        distribution("scikit-image")
    except PackageNotFoundError:
        pytest.skip("needs scikit-image")
    for name in ("one", "two"):
        photographs.draw_photographs(tmp_path / name, per_combination=1)
    one, two = (read_folder(tmp_path / name) for name in ("one", "two"))
    assert (one.images[:] == two.images[:]).all()
    assert len(one.prompts) == len(set(one.prompts)) == len(MOTIFS) * len(TINTS) * len(STYLES)
    meta = json.loads((tmp_path / "one" / "meta.json").read_text())
    assert set(meta["credits"]) == {photo.file for photo in MOTIFS.values()}
