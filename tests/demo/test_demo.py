"""The demo as it is called, and its refusals."""

import csv
import json
from pathlib import Path

import pytest
import yaml
from PIL import Image

from ctrak_jax import cli, demo
from ctrak_jax.demo import __main__ as keep
from ctrak_jax.demo import weights
from ctrak_jax.report.contact import sheet_size
from ctrak_jax.run.reader import open_run
from ctrak_jax.store.files import read_json
from tests.cli.small import SMALL


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demo of a network that is trained within seconds, whose pictures are of anything."""
    settings = yaml.safe_load(demo.CONFIG.read_text())
    given = {name: {**settings.get(name, {}), **section} for name, section in SMALL.items()}
    settings |= given
    settings["data"] |= {"size": 80, "candidates": 40}
    settings["query"] |= {"check": "none", "per_combination": 1, "validation": 1}
    settings["run"] = {"devices": 1}
    monkeypatch.setattr(demo, "CONFIG", tmp_path / "shapes.yaml")
    (tmp_path / "shapes.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_a_model_trained_here_kept_and_taken_answers_alike(small, monkeypatch, capsys):
    assert cli.main(["demo", "--train", "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)
    file = small / "model.safetensors"
    keep.main(Path("runs/demo-trained"), file)
    monkeypatch.setattr(weights, "FILE", file)
    weights.sha256.cache_clear()
    try:
        assert cli.main(["demo", "--out", "taken"]) == 0
        text = capsys.readouterr().out
        assert cli.main(["demo", "--out", "taken", "--json"]) == 0
        taken = json.loads(capsys.readouterr().out)
        assert read_json(Path("taken/model/model.json"), "train")["sha256"] == weights.sha256()
        for out, flags in (("taken", ["--train"]), ("runs/demo-trained", [])):
            assert cli.main(["demo", "--out", out, *flags]) == 2
            assert "another --out" in capsys.readouterr().err
    finally:
        weights.sha256.cache_clear()
    assert trained["base_rate"] == taken["base_rate"]
    assert counted(Path("taken"), taken) == taken["carriers"]
    assert next(iter(taken["carriers"])) == "concept-trak"
    with Image.open(taken["picture"]) as picture:
        assert picture.size == sheet_size(16, 16, rows=len(taken["carriers"]))
    assert taken["picture"] in text
    assert taken["report"] in text
    assert Path(taken["report"]).is_file()


def counted(out: Path, answer: dict) -> dict[str, int]:
    """The same numbers from the tables of the run and the drawn data set."""
    colors = open_run(out).dataset.raw.attributes["color"]
    found = {}
    for method in answer["carriers"]:
        with (out / "unnamed" / "color" / "top" / f"{method}.csv").open() as table:
            rows = [
                row
                for row in csv.DictReader(table)
                if (row["query"], row["attribute"]) == (answer["query"], "color")
            ]
        first = sorted(rows, key=lambda row: int(row["rank"]))[:10]
        found[method] = sum(colors[int(row["index"])] == "red" for row in first)
    return found
