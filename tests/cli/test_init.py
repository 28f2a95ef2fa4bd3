"""``ctrak init``: the file, what is printed, and one run of it."""

import json

import pytest

from ctrak_jax import cli, pipeline, start
from ctrak_jax.config import load
from tests.start.folders import HAIR, STYLE, folder


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(start, "measured", lambda minutes: start.Machine("test", 240.0, minutes))
    folder(tmp_path / "mine", {"style": STYLE, "hair": HAIR})
    return tmp_path / "mine"


def test_the_config_has_the_folder_s_name_and_is_not_overwritten(images, tmp_path, capsys):
    assert cli.main(["init", "mine"]) == 0
    assert "ctrak run mine.yaml" in capsys.readouterr().out
    first = (tmp_path / "mine.yaml").read_text()
    assert cli.main(["init", "mine"]) == 2
    assert "--force" in capsys.readouterr().err
    (tmp_path / "mine.yaml").write_text("mine: own")
    assert cli.main(["init", "mine"]) == 2
    assert (tmp_path / "mine.yaml").read_text() == "mine: own"
    assert cli.main(["init", "mine", "--force"]) == 0
    assert (tmp_path / "mine.yaml").read_text() == first


def test_json_says_what_the_file_says(images, tmp_path, capsys):
    assert cli.main(["init", str(images), "--out", "other.yaml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    config = load(tmp_path / found["config"]).model_dump(mode="json")
    for choice in found["settings"]:
        section, _, name = choice["setting"].rpartition(".")
        assert (config[section] if section else config)[name] == choice["value"]
    assert found["images"] == 60
    assert found["attributes"]["style"] == {"micah": 20, "pixel": 20, "voxel": 20}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["none"], "no such folder"),
        (["mine", "--out", "no/such.yaml"], "no such folder"),
        (["mine", "--minutes", "0"], "--minutes 0"),
        (["mine", "--kind", "gan"], "--kind"),
        (["mine", "--kind", "text-to-image"], "no captions"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_what_is_wrong_is_one_line(images, ctrak, monkeypatch, words, told):
    monkeypatch.chdir(images.parent)
    outcome = ctrak("init", *words)
    assert (outcome.status, outcome.out) == (2, "")
    assert told in outcome.line


def test_too_few_images_are_refused_before_the_machine_is_measured(tmp_path, ctrak, monkeypatch):
    folder(tmp_path / "few", {"style": STYLE[:12]}, count=12)
    monkeypatch.setattr(start, "measured", lambda _: pytest.fail("measured"))
    status, line, _ = ctrak("init", "few")
    assert (status, "12 images, too few" in line) == (2, True)


def test_without_attributes_a_run_ends_with_the_features(tmp_path, monkeypatch, capsys):
    captions = [f"a {style} portrait" for style in STYLE]
    folder(tmp_path / "told", captions=captions)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(start, "measured", lambda minutes: start.Machine("test", 240.0, minutes))
    assert cli.main(["init", "told"]) == 0
    asked = capsys.readouterr().out
    assert "ctrak attribute told.yaml --prompt" in asked
    assert "negative" not in (tmp_path / "told.yaml").read_text(), "nothing is guided"
    ran: list[str] = []
    monkeypatch.setattr(pipeline, "run", lambda config, out, stages: ran.extend(stages))
    assert cli.main(["run", "told.yaml"]) == 0
    assert ran == ["train", "encode", "featurize"]
    assert "ctrak attribute --prompt" in capsys.readouterr().out


@pytest.mark.slow
def test_the_config_runs(images, tmp_path, capsys):
    assert cli.main(["init", "mine"]) == 0
    small = {"train.steps": "100", "model.width": "16", "model.depth": "1", "projection.k": "64"}
    small |= {"query.combinations": "2", "methods": "[concept-trak, d-trak]", "run.devices": "1"}
    small |= {"query.repetitions": "1", "evaluate.bootstrap": "100"}
    assert cli.main(["run", "mine.yaml", *(f"--{n}={v}" for n, v in small.items())]) == 0
    assert "concept-trak" in capsys.readouterr().out.lower()
    assert (tmp_path / "runs" / "mine" / "report" / "index.html").exists()
