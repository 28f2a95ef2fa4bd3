"""A run of a data set with faults that are to be skipped."""

import pytest

from ctrak_jax import config as cfg
from ctrak_jax import hosts, pipeline
from ctrak_jax.config import Config
from ctrak_jax.data.pictures import Files
from ctrak_jax.errors import UsageError
from ctrak_jax.run.reader import open_run
from tests.data.wild import Numbering, captions_beside, encoded, put, style, table_names_files

AT = Numbering(12)


def prepared(tmp_path, **changes):
    data = {"kind": "folder", "path": tmp_path / "mine", "condition_on": ["style"], **changes}
    config = {"data": data, "query": {"check": "none"}, "evaluate": {"k": [3]}}
    return pipeline.prepare(Config.model_validate(config), tmp_path / "run")[0].training_set


def test_what_was_left_out_is_listed_in_the_folder_of_the_run(tmp_path):
    table_names_files(tmp_path / "mine", AT)
    captions_beside(tmp_path / "mine", AT)
    (tmp_path / "mine/images/5.txt").unlink()
    put(tmp_path / "mine/images/7.png", encoded(7)[:-30])
    with pytest.raises(UsageError, match=r"5\.png: has no caption"):
        prepared(tmp_path)
    with pytest.raises(UsageError, match=r"7\.png: not a readable image"):
        prepared(tmp_path, incomplete="skip")
    found = prepared(tmp_path, incomplete="skip", bad_pictures="skip")
    left = [n for n in AT.every if n not in (5, 7)]
    assert found.raw.attributes["style"] == tuple(map(style, left))
    listed = (tmp_path / "run/skipped.csv").read_text().splitlines()[1:]
    assert [line.partition(",")[0] for line in listed] == ["incomplete", "picture"]
    assert (tmp_path / "run/pictures.jsonl").exists()
    put(tmp_path / "mine/images/5.txt", "picture 5")
    put(tmp_path / "mine/images/7.png", encoded(7))
    prepared(tmp_path)
    assert not (tmp_path / "run/skipped.csv").exists()


def test_a_run_that_is_opened_decodes_no_picture_again(tmp_path, monkeypatch):
    table_names_files(tmp_path / "mine", AT)
    put(tmp_path / "mine/images/7.png", encoded(7)[:-30])
    found = prepared(tmp_path, bad_pictures="skip")
    monkeypatch.delattr(Files, "read")
    assert open_run(tmp_path / "run").dataset.raw.attributes == found.raw.attributes


def test_other_processes_leave_out_what_the_first_one_found(tmp_path, monkeypatch):
    table_names_files(tmp_path / "mine", AT)
    put(tmp_path / "mine/images/7.png", encoded(7)[:-30])
    data = cfg.DataConfig(
        kind="folder", path=tmp_path / "mine", condition_on=("style",), bad_pictures="skip"
    )
    reads: list[str] = []
    plain = Files.read

    def read(self, row):
        reads.append("first" if hosts.is_first() else "other")
        return plain(self, row)

    def barrier(name):
        """The other process waits here while the first one decodes."""
        if not hosts.is_first():
            with monkeypatch.context() as patch:
                patch.setattr(hosts, "is_first", lambda: True)
                pipeline._training_set(data, tmp_path / "run")

    monkeypatch.setattr(Files, "read", read)
    monkeypatch.setattr(hosts, "barrier", barrier)
    monkeypatch.setattr(hosts, "is_first", lambda: False)
    found = pipeline._training_set(data, tmp_path / "run")
    assert reads == ["first"] * AT.count
    assert [fault.row for fault in found.raw.skipped] == [7]
