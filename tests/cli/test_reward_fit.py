"""``ctrak reward fit``: what it prints and keeps, and folders that it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ctrak_jax import cli
from ctrak_jax.config import Config
from ctrak_jax.rewards.base import Concept, RewardRequest
from ctrak_jax.rewards.classifier import file, reward

RNG = np.random.default_rng(0)
COUNT, SIDE = 10, 12


def draw(folder: Path, color: tuple[int, int, int]) -> Path:
    """Noisy pictures of one colour, one of them in a sub-folder."""
    (folder / "more").mkdir(parents=True)
    for number in range(COUNT):
        noise = RNG.integers(0, 60, (SIDE, SIDE, 3))
        picture = Image.fromarray((np.array(color) * 3 // 4 + noise).astype(np.uint8))
        picture.save(folder / ("more/x.png" if not number else f"{number}.png"))
    return folder


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    return draw(tmp_path / "red", (255, 0, 0)), draw(tmp_path / "blue", (0, 0, 255))


def words(folders: tuple[Path, Path], out: object = "c.safetensors") -> list[str]:
    given = ["--positive", folders[0], "--negative", folders[1], "--out", out]
    return ["reward", "fit", *map(str, given)]


def test_two_folders_become_a_classifier(tmp_path, folders, capsys):
    out = tmp_path / "red.safetensors"
    shutil.copy(folders[0] / "1.png", folders[0] / "again.png")
    few = ["--size", "8", "--steps", "40", "--seed", "3"]
    assert cli.main([*words(folders, out), *few]) == 0
    said = capsys.readouterr().out
    assert f"{folders[0]}: {COUNT} pictures, 1 repeated ones left out" in said
    assert "held out: 2 of 2 that show it and 2 of 2 that do not are classified correctly" in said
    found = file.read(out)
    assert found.about["made_from"]["folders"] == {str(f): COUNT for f in folders}
    assert found.about["made_from"]["fit"]["seed"] == 3
    first = out.read_bytes()
    assert cli.main([*words(folders, out), *few, "--json", "--name", "color=red"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == {"color=red": 1.0}
    assert out.read_bytes() != first  # by its name alone
    asked = Concept("color", "red")
    loaded = reward.load(str(out), RewardRequest(Config(), (asked,), (SIDE, SIDE, 3), tmp_path))
    shown = [np.full((SIDE, SIDE, 3), -1.0, np.float32) for _ in range(2)]
    shown[0][..., 0] = shown[1][..., 2] = 0.5
    red, blue = (float(loaded.fn(loaded.params, one, loaded.targets[asked])) for one in shown)
    assert red > -0.5 > blue


def unreadable(positive: Path, negative: Path) -> None:
    (negative / "3.png").write_bytes(b"no picture")


def common(positive: Path, negative: Path) -> None:
    shutil.copy(positive / "2.png", negative / "other.png")


def empty(positive: Path, negative: Path) -> None:
    for picture in negative.rglob("*.png"):
        picture.unlink()


def gone(positive: Path, negative: Path) -> None:
    shutil.rmtree(positive)


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (unreadable, ("3.png", "not a readable image")),
        (common, ("red/2.png", "blue/other.png", "are the same picture (1 such)")),
        (empty, ("--negative", "has 0 different pictures", "at least 5")),
        (gone, ("--positive", "no such folder")),
    ],
)
def test_bad_folders_are_refused(ctrak, folders, damage, parts):
    damage(*folders)
    status, line, _ = ctrak(*words(folders))
    assert status == 2
    assert all(part in line for part in parts)
    assert not Path("c.safetensors").exists()


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (["--out", "c.npz"], "ends in .safetensors"),
        (["--out", "nowhere/c.safetensors"], "no such folder"),
        (["--size", "4"], "expected 8 to 256"),
        (["--steps", "0"], "expected 1 or more"),
        (["--seed", "-1"], "expected 0 or more"),
    ],
)
def test_bad_arguments_are_refused(ctrak, folders, more, part):
    status, line, _ = ctrak(*words(folders), *more)
    assert status == 2
    assert part in line
