"""The avatar benchmark: what its labels say is what its pictures show, and how it is drawn."""

import json
import signal
import subprocess
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from ctrak_jax import cli
from ctrak_jax.config import load
from ctrak_jax.data import avatars, build, read_folder
from ctrak_jax.data.avatars import draw as drawing
from ctrak_jax.data.avatars.draw import AvatarSettings, draw, draw_checked
from ctrak_jax.data.avatars.styles import ATTRIBUTES, COLORS, STYLES, options
from ctrak_jax.errors import UsageError
from tests.command import command, environment
from tests.paths import ROOT

for package in ("dicebear", "dicebear_styles", "resvg_py"):
    pytest.importorskip(package, reason="needs the extra avatars")

PLAIN = {
    "hair": "blue",
    "skin": "medium",
    "glasses": "no",
    "beard": "no",
    "background": "mint",
}
COMBINATIONS = 6 * 5 * 3 * 2 * 2 * 4


def rgb(attribute: str, value: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(COLORS[attribute][value]), np.uint8).astype(int)


def share(image: np.ndarray, color: np.ndarray, within: int = 24) -> float:
    """Share of the pixels of a colour."""
    return float((np.abs(image.astype(int) - color).max(-1) <= within).mean())


# One picture


def test_every_combination_is_there():
    assert list(ATTRIBUTES["style"]) == list(STYLES)
    found = list(drawing._combinations())
    assert len(found) == COMBINATIONS == len({tuple(values.values()) for values in found})
    assert all(set(COLORS[name]) == set(ATTRIBUTES[name]) for name in COLORS)


@pytest.mark.parametrize("style", STYLES)
def test_options_are_ones_the_style_knows(style):
    """An unknown option would be left out without a word."""
    from dicebear import OptionsDescriptor

    known = OptionsDescriptor(drawing._style(style)).to_json()
    for glasses, beard in product(("no", "yes"), repeat=2):
        values = PLAIN | {"style": style, "glasses": glasses, "beard": beard}
        for name, value in options(values, "s").items():
            assert name in known
            if name.endswith("Variant"):
                asked = {value} if isinstance(value, str) else set(value)
                assert asked <= set(known[name]["values"])


@pytest.mark.parametrize("style", STYLES)
def test_colours_show(style):
    """Every value's colour fills a part of the picture, and no other value's does."""
    for number, name in enumerate(COLORS):
        for value in ATTRIBUTES[name]:
            values = PLAIN | {"style": style, name: value}
            images = [draw_checked(values, n, AvatarSettings(32, 1, number)) for n in range(2)]
            least = 0.005 if style == "personas" else 0.01  # whose hair and skin are half covered
            shown = np.mean([share(image, rgb(name, value)) for image in images])
            assert shown >= least, (name, value)
            flip = ATTRIBUTES[name][ATTRIBUTES[name].index(value) - 1]
            assert shown > np.mean([share(image, rgb(name, flip)) for image in images])


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", drawing.VISIBLE)
def test_flipping_a_label_changes_the_picture_and_little_else(style, name):
    values = PLAIN | {"style": style}
    for number in range(2):
        image = draw_checked(values, number, AvatarSettings(32, 1, 7))
        seed = next(
            s
            for s in (
                f"7/{'/'.join(values[a] for a in ATTRIBUTES)}/{number}/{n}" for n in range(200)
            )
            if (draw(values, s, 32) == image).all()
        )
        known = ATTRIBUTES[name]
        other = draw(values | {name: known[(known.index(values[name]) + 1) % len(known)]}, seed, 32)
        changed = np.abs(image.astype(int) - other).max(-1) > drawing.CHANGED
        assert drawing.VISIBLE[name] < changed.mean() < 0.6
        np.testing.assert_array_equal(image[0, 0], rgb("background", "mint"))


def test_the_check_refuses_what_does_not_show(monkeypatch):
    """White glasses on a blank picture: nothing changes, so another seed is drawn."""
    values = PLAIN | {"style": "micah"}
    asked = []

    def blank(values, seed, size):
        asked.append(seed)
        attempt = int(seed.rpartition("/")[2])
        shade = 40 if values["glasses"] == "yes" and attempt >= 3 else 0
        hair = 80 * ATTRIBUTES["hair"].index(values["hair"]) % 256
        beard = 100 * (values["beard"] == "yes")
        return np.full((size, size, 3), [shade, hair, beard], np.uint8)

    monkeypatch.setattr(drawing, "draw", blank)
    draw_checked(values, 0, AvatarSettings(8, 1, 0))
    assert asked[-1].endswith("/3")
    monkeypatch.setattr(drawing, "draw", lambda values, seed, size: np.zeros((size, size, 3)))
    with pytest.raises(RuntimeError, match="micah/blue"):
        draw_checked(values, 0, AvatarSettings(8, 1, 0))


def test_a_larger_picture_is_of_the_same_person():
    values = PLAIN | {"style": "avataaars", "glasses": "yes"}
    small, large = (draw_checked(values, 3, AvatarSettings(size, 1, 0)) for size in (32, 64))
    halved = large.reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(halved - small).mean() < 4
    other = draw_checked(values, 4, AvatarSettings(32, 1, 0))
    assert np.abs(halved - other).mean() > 8


def test_captions():
    values = {"style": "pixel-art", "hair": "red", "skin": "dark", "background": "mint"}
    with_both = avatars.caption(values | {"glasses": "yes", "beard": "yes"})
    assert with_both == (
        "a pixel-art portrait with red hair, dark skin, glasses and a beard on a mint background"
    )
    plain = avatars.caption(values | {"style": "avataaars", "glasses": "no", "beard": "no"})
    assert plain == "an avataaars portrait with red hair and dark skin on a mint background"


# A folder of them


@pytest.fixture
def few(monkeypatch):
    """Six styles times two hair colours; drawn in this process's threads, not in others."""
    from concurrent.futures import ThreadPoolExecutor

    chosen = [
        PLAIN | {"style": style, "hair": hair} for style in STYLES for hair in ("red", "white")
    ]
    monkeypatch.setattr(drawing, "_combinations", lambda: iter(chosen))
    monkeypatch.setattr(
        drawing, "ProcessPoolExecutor", lambda workers, *_, **__: ThreadPoolExecutor(workers)
    )
    return chosen


def test_a_folder_holds_pictures_labels_captions_and_credits(few, tmp_path):
    avatars.draw_avatars(tmp_path / "set", per_combination=2, seed=5)
    assert not (tmp_path / "set" / ".parts").exists()
    raw = read_folder(tmp_path / "set")
    assert raw.images.shape == (24, 32, 32, 3)
    for i, values in enumerate(values for values in few for _ in range(2)):
        assert {name: column[i] for name, column in raw.attributes.items()} == values
        assert raw.prompts[i] == avatars.caption(values)
        expected = draw_checked(values, i % 2, AvatarSettings(32, 2, 5))
        np.testing.assert_array_equal(raw.images[i], expected)
    assert len(np.unique(raw.images[:].reshape(24, -1), axis=0)) == 24
    assert set(raw.meta["credits"]) == set(STYLES)
    for style, names in (("micah", "Micah Lanier"), ("personas", "Draftbit"), ("miniavs", "Webp")):
        assert names in raw.meta["credits"][style]["text"]
        assert raw.meta["credits"][style]["name"] == "CC BY 4.0"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_an_interrupted_drawing_goes_on_and_ends_with_the_same_bytes(few, tmp_path, monkeypatch):
    avatars.draw_avatars(tmp_path / "whole", per_combination=1)
    plain, drawn = drawing.draw_checked, []

    def dies(values, number, settings):
        drawn.append(tuple(values.values()))
        if len(drawn) == 10:
            raise KeyboardInterrupt
        return plain(values, number, settings)

    monkeypatch.setattr(drawing, "draw_checked", dies)
    with pytest.raises(KeyboardInterrupt):
        avatars.draw_avatars(tmp_path / "part", per_combination=1, workers=1)
    first = set(drawn[:8])
    drawn[:] = [()] * 10
    avatars.draw_avatars(tmp_path / "part", per_combination=1, workers=1)
    assert not first & set(drawn), "what was finished is kept"
    assert contents(tmp_path / "part") == contents(tmp_path / "whole")
    drawn.clear()
    avatars.draw_avatars(tmp_path / "part", per_combination=1)
    assert not drawn, "and a finished folder is left as it is"


def test_what_is_there_is_not_written_over(few, tmp_path):
    out = tmp_path / "set"
    avatars.draw_avatars(out, per_combination=1)
    before = contents(out)
    with pytest.raises(UsageError, match=r"set: .*'seed': 0.*'seed': 1.*--out"):
        avatars.draw_avatars(out, per_combination=1, seed=1)
    assert contents(out) == before
    (tmp_path / "other" / ".parts").mkdir(parents=True)
    (tmp_path / "other" / ".parts" / "drawn_by.json").write_text(json.dumps({"seed": 8}))
    with pytest.raises(UsageError, match=r'\.parts: begun with {"seed": 8}'):
        avatars.draw_avatars(tmp_path / "other")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "attributes.csv").write_text("index,a\n0,b\n")
    with pytest.raises(UsageError, match="mine: holds other files, expected an empty folder"):
        avatars.draw_avatars(tmp_path / "mine")


@pytest.mark.parametrize("package", drawing.PACKAGES)
def test_a_missing_package_is_named_with_what_to_run(monkeypatch, tmp_path, capsys, package):
    plain = drawing.version

    def version(name):
        if name == package:
            raise ModuleNotFoundError(name)
        return plain(name)

    monkeypatch.setattr(drawing, "version", version)
    assert cli.main(["data", "avatars", "--out", str(tmp_path / "set")]) == 2
    err = capsys.readouterr().err
    assert package in err
    assert "pip install 'ctrak-jax[avatars]'" in err
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--size", "0"], "--size 0"),
        (["--per-combination", "0"], "--per-combination 0"),
        (["--seed", "-1"], "--seed -1"),
        (["--size", "many"], "many"),
        (["--train.steps", "3"], "--train.steps"),
    ],
)
def test_bad_usage_exits_with_2(capsys, tmp_path, argv, words):
    assert cli.main(["data", "avatars", "--out", str(tmp_path / "set"), *argv]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_command_leaves_no_process_and_goes_on(tmp_path):
    """The real command with its processes: killed without a chance to tidy up."""
    out = tmp_path / "set"
    argv = command("data", "avatars", "--out", out, "--per-combination", "1", "--seed", "3")
    process = subprocess.Popen(argv, env=environment(), stderr=subprocess.DEVNULL)
    try:
        parts = out / ".parts"
        deadline = time.monotonic() + 120
        first = parts / "00000.npy"  # of two processes either may be ahead
        while time.monotonic() < deadline and not (
            first.exists() and len(list(parts.glob("*.npy"))) >= 2
        ):
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    time.sleep(3)
    kept = {p.name: p.stat().st_mtime_ns for p in parts.glob("*.npy")}
    assert len(kept) >= 2
    time.sleep(3)
    assert {p.name: p.stat().st_mtime_ns for p in parts.glob("*.npy")} == kept, "workers are gone"
    drawn = np.load(first)
    values = next(iter(drawing._combinations()))
    np.testing.assert_array_equal(drawn[0], draw_checked(values, 0, AvatarSettings(32, 1, 3)))


# The shipped config


def test_the_config_holds_out_what_it_says(few, tmp_path):
    avatars.draw_avatars(tmp_path / "set", per_combination=1)
    config = load(
        ROOT / "configs" / "avatars.yaml",
        {"data.path": str(tmp_path / "set"), "data.hold_out": "[{style: voxel-art, hair: red}]"},
    )
    data = build(config.data)
    assert data.conditions.attributes == tuple(ATTRIBUTES)
    out = set(range(12)) - set(data.train_index.tolist())
    assert [few[i]["style"] + few[i]["hair"] for i in out] == ["voxel-artred"]
