"""``ctrak data check``: a table of faults, or none."""

import csv
import json

import numpy as np
import pytest
import yaml

from ctrak_jax import cli
from tests.data.wild import Numbering, by_index, captions_beside, encoded, metadata_csv, put

AT = Numbering(12)


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A config of the folder ``mine``."""
    monkeypatch.chdir(tmp_path)
    data = {"kind": "folder", "path": "mine", "condition_on": ["style"]}
    (tmp_path / "some.yaml").write_text(yaml.safe_dump({"data": data, "query": {"check": "none"}}))
    return "some.yaml"


def test_a_set_without_faults_exits_with_0(tmp_path, config, capsys):
    metadata_csv(tmp_path / "mine", AT)
    assert cli.main(["data", "check", config]) == 0
    out = capsys.readouterr().out
    for words in ("12 images, 24 x 24 pixels", "style: 3 values: a 4", "12 captions", "no fault"):
        assert words in out
    assert (tmp_path / "runs/some/faults.csv").read_text() == "kind,name,reason\n"


def test_captions_alone_are_enough(tmp_path, capsys):
    captions_beside(tmp_path / "mine", AT)
    data = {"kind": "folder", "path": str(tmp_path / "mine"), "condition_on": []}
    some = {"data": data, "model": {"kind": "text-to-image"}, "query": {"check": "none"}}
    (tmp_path / "some.yaml").write_text(yaml.safe_dump(some))
    words = ["data", "check", str(tmp_path / "some.yaml"), "--out", str(tmp_path / "out")]
    assert cli.main(words) == 0
    assert "12 captions" in capsys.readouterr().out


def test_captions_that_name_a_value_in_other_words_are_counted(tmp_path, config, capsys):
    metadata_csv(tmp_path / "mine", AT)
    words = ["data", "check", config, "--model.kind", "text-to-image"]
    assert cli.main(words) == 0
    line = "in 12 of 12 captions (100.0%) the words for the value of 'style' are not found"
    assert line in capsys.readouterr().out
    assert cli.main([*words, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["unfound_words"]
    assert found["first"] == "picture 0"


def test_all_faults_are_listed_at_once(tmp_path, config, capsys):
    by_index(tmp_path / "mine", AT)
    captions_beside(tmp_path / "mine", AT)
    (tmp_path / "mine/images/3.txt").unlink()
    put(tmp_path / "mine/images/5.png", encoded(5)[:-30])
    put(tmp_path / "mine/images/7.txt", "of 7")
    put(tmp_path / "mine/images/70.txt", "of nothing")
    put(tmp_path / "mine/prompts.txt", "".join(f"picture {n}\n" for n in AT.every))
    assert cli.main(["data", "check", config, "--out", "out", "--json"]) == 1
    said = capsys.readouterr()
    assert "out/faults.csv" in said.err
    found = json.loads(said.out)
    names = [fault["name"].rpartition("/")[2] for fault in found["faults"]]
    assert names == ["70.txt", "5.png", "7.png"], "the caption of 3 stands in prompts.txt"
    assert [fault["kind"] for fault in found["faults"]] == ["incomplete", "picture", "conflict"]
    with (tmp_path / "out/faults.csv").open() as file:
        assert list(csv.DictReader(file)) == found["faults"]


def test_a_file_that_is_not_read_is_a_fault(tmp_path, config, ctrak):
    metadata_csv(tmp_path / "mine", AT)
    put(tmp_path / "mine/captions/3.txt", "picture 3")
    status, line, out = ctrak("data", "check", config)
    assert status == 1
    assert "1 fault, listed" in line
    assert "captions/3.txt" in out
    status, line, _ = ctrak("data", "check", config, "--data.condition_on", "[hair]")
    assert status == 2
    assert "'hair' is not in the data set" in line


def test_pictures_of_another_size_are_faults_where_none_are_resized(tmp_path, config, ctrak):
    metadata_csv(tmp_path / "mine", AT)
    put(tmp_path / "mine/images/4.PNG", encoded(4)[:0] + larger())
    status, line, out = ctrak("data", "check", config)
    assert status == 1
    assert "1 fault, listed" in line
    assert "data.resize: true" in line
    assert "skip" not in line
    assert "30 x 20" in out
    assert cli.main(["data", "check", config, "--data.resize", "true"]) == 0


def larger() -> bytes:
    import io

    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data.kind", "synthetic"], "there are no files"),
        (["--data.condition_on", "[hair]"], "'hair' is not in the data set"),
        (["--data.hold_out", "[{style: z}]"], "style='z' does not occur"),
        (["--data.hold_out", "[{style: a}, {style: b}, {style: c}]"], "removes all 12 images"),
        (["--data.unlabelled", "{hair: 0.5}"], "'hair' is not in the data set"),
        (["--out", "mine"], "is the folder of the data (data.path=mine)"),
        (["--out", "x/../mine/images"], "is the folder of the data"),
    ],
)
def test_what_cannot_be_checked_exits_with_2(tmp_path, config, ctrak, arguments, words):
    metadata_csv(tmp_path / "mine", AT)
    status, line, _ = ctrak("data", "check", config, *arguments)
    assert status == 2
    assert words in line
    assert not (tmp_path / "runs").exists()
    assert {file.name for file in (tmp_path / "mine").iterdir()} == {"images"}
