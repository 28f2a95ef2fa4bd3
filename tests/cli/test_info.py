"""``ctrak info`` of what is right, and of what is damaged on disk."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ctrak_jax import cli
from ctrak_jax.store import FeatureStore

Damage = Callable[[Path], object]
KEY = {
    "loss": "dsm",
    "trajectory": {"path": "forward"},
    "projection": {"kind": "rademacher", "k": 32},
}


@pytest.fixture
def store(tmp_path) -> Path:
    path = tmp_path / "run" / "features" / "trak"
    made = FeatureStore.create(path, KEY, index=np.arange(10), widths={"features": 32}, chunk=4)
    values = np.random.default_rng(0).normal(size=(10, 32)).astype(np.float32)
    for rows in made.chunks:
        made.write(rows, {"features": values[rows.start : rows.stop]})
    made.seal()
    return path


def test_info_of_what_is_right(capsys, store):
    assert cli.main(["info", str(store.parents[1]), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["stores"][str(store)]["rows"] == 10
    assert found["stores"][str(store)]["key"] == KEY
    assert cli.main(["info", str(store)]) == 0
    text = capsys.readouterr().out
    assert "10 rows" in text
    assert "complete" in text


def changed(change: Callable[[bytes], bytes]) -> Damage:
    return lambda file: file.write_bytes(change(file.read_bytes()))


DISK = {
    "a byte of a chunk": ("features/c/1/0", changed(lambda b: b[:9] + bytes([b[9] ^ 1]) + b[10:])),
    "the checksum of a chunk": ("features/c/2/0", changed(lambda b: b[:-1] + bytes([b[-1] ^ 128]))),
    "a chunk cut off": ("features/c/0/0", changed(lambda b: b[:100])),
    "a chunk lost": ("features/c/0/0", Path.unlink),
    "a byte of the index": ("index/c/0", changed(lambda b: bytes([b[0] ^ 1]) + b[1:])),
    "the index lost": ("index/c/0", Path.unlink),
    "meta data cut off": ("features/zarr.json", changed(lambda b: b[:40])),
    "meta data lost": ("features/zarr.json", Path.unlink),
    "manifest cut off": ("manifest.json", changed(lambda b: b[: len(b) // 2])),
    "manifest empty": ("manifest.json", changed(lambda b: b"")),
    "manifest a list": ("manifest.json", changed(lambda b: b"[]")),
    "manifest not text": ("manifest.json", changed(lambda b: b"\xff" + b)),
    "manifest of other rows": (
        "manifest.json",
        changed(lambda b: b.replace(b'"rows": 10', b'"rows": 12')),
    ),
    "manifest with no chunk": (
        "manifest.json",
        changed(lambda b: b.replace(b'"chunk": 4', b'"chunk": 0')),
    ),
}


@pytest.mark.parametrize(("name", "damage"), DISK.values(), ids=DISK.keys())
def test_info_of_a_damaged_store_exits_with_1_and_names_the_place(ctrak, store, name, damage):
    damage(store / name)
    status, line, _ = ctrak("info", store.parents[1])
    assert status == 1
    assert str(store) in line
    if not name.startswith("manifest"):
        assert name.split("/")[0] in line.replace(str(store.parents[1]), "")


def test_info_of_a_damaged_model_exits_with_1(ctrak, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text('{"parameters": 3, "sha')
    status, line, _ = ctrak("info", tmp_path)
    assert status == 1
    assert "model.json" in line
