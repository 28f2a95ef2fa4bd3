"""The self-test passes here, and fails where what it tests is wrong."""

import json

import jax
import numpy as np
import pytest

from ctrak_jax import cli, doctor
from ctrak_jax.doctor import machine, self_test, writer
from ctrak_jax.doctor.checks import Check, tried


def test_projections_agree_with_the_matrix(monkeypatch):
    assert self_test.projected().outcome == "ok"
    right = self_test.reference.project

    def wrong(kind, seed, g, k):
        return right(kind, seed, g, k) * (1.001 if kind == "sjlt" else 1.0)

    monkeypatch.setattr(self_test.reference, "project", wrong)
    found = self_test.projected()
    assert found.outcome == "failed"
    assert found.numbers["errors"]["sjlt"] == pytest.approx(0.001, rel=0.02)


def test_a_gradient_agrees_with_finite_differences(monkeypatch):
    found = self_test.differentiated()
    assert found.outcome == "ok"
    assert max(found.numbers["errors"]) < 1e-5
    right = self_test.sample_gradient

    def wrong(*args, **named):
        return jax.tree.map(lambda leaf: 1.01 * leaf, right(*args, **named))

    monkeypatch.setattr(self_test, "sample_gradient", wrong)
    found = self_test.differentiated()
    assert found.outcome == "failed"
    assert found.numbers["errors"][0] == pytest.approx(0.01 / 1.01, rel=1e-3)


def test_a_store_survives_the_kill_of_its_writer(tmp_path, monkeypatch):
    found = self_test.stored(tmp_path)
    assert found.outcome == "ok"
    assert 0 < found.numbers["complete_when_killed"] < found.numbers["chunks"]
    assert list(tmp_path.iterdir()) == [], "nothing is left"
    right = writer.values
    monkeypatch.setattr(writer, "values", lambda rows: np.where(right(rows) > 0.9, 0, right(rows)))
    found = self_test.stored(tmp_path)
    assert found.outcome == "failed"
    assert found.numbers["wrong_rows"] > 0


def test_a_writer_that_ends_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(self_test.sys, "executable", "/bin/false")
    found = tried("self-test", "store", "do this", lambda: self_test.stored(tmp_path))
    assert (found.outcome, found.advice) == ("failed", "do this")


def test_a_disk_that_is_full_fails(tmp_path, monkeypatch):
    usage = machine.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda place: usage._replace(free=10**8))
    found = {check.name: check for check in machine.checks(tmp_path, None)}
    assert found["disk"].outcome == "failed"
    assert found["disk"].found.startswith("0.1 GB free")
    assert found["compiled programs"].found == "not kept"


SOUND = Check("versions", "python", "ok", "3.11")
MISSING = Check("optional parts", "gpu", "note", "not installed", "pip install it")
BROKEN = Check("machine", "disk", "failed", "0 GB free", "free some")


@pytest.mark.parametrize(("checks", "status"), [([SOUND, MISSING], 0), ([SOUND, BROKEN], 1)])
def test_the_exit_status_says_whether_all_passed(checks, status, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda place, programs: checks)
    assert cli.main(["doctor"]) == status
    lines = capsys.readouterr().out.splitlines()
    assert sum("free some" in line for line in lines) == status
    assert any("(pip install it)" in line for line in lines) == (MISSING in checks)
    assert cli.main(["doctor", "--json"]) == status
    said = json.loads(capsys.readouterr().out)
    assert said["passed"] is (status == 0)
    assert [check["name"] for check in said["checks"]] == [check.name for check in checks]


def test_a_folder_that_is_not_there_is_refused(tmp_path, capsys):
    assert cli.main(["doctor", "--dir", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
