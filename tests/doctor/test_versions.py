"""What the package asks for, what is there, and what the lock has."""

import ast
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from ctrak_jax.doctor import parts, versions
from ctrak_jax.doctor.versions import Requirement, parsed, within
from ctrak_jax.errors import pip_install

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize(
    ("found", "bounds", "expected"),
    [
        ("0.10", ">=0.10", True),
        ("0.9.9", ">=0.10", False),
        ("1", ">=1.0.0", True),
        ("0.10.0rc1", ">=0.10", True),
        ("0.39.4", ">=0.35,<0.40", True),
        ("0.40", "<0.40,>=0.35", False),
        ("4.57", "==4.57.0", True),
        ("4.57.1", "==4.57", False),
        ("3", "", True),
    ],
)
def test_releases_are_compared_as_numbers(found, bounds, expected):
    assert within(found, bounds) is expected


def test_a_line_of_the_metadata():
    given = "diffusers[flax]<0.40,>=0.35; extra == 'diffusers'"
    assert parsed(given) == Requirement("diffusers", "<0.40,>=0.35", "diffusers")
    assert parsed("jax>=0.10") == Requirement("jax", ">=0.10", None)


def test_what_the_project_asks_for_is_looked_at():
    named = [check.name for check in versions.checks()]
    asked = {parsed(line).name.replace("_", "-") for line in PROJECT["dependencies"]}
    assert set(named) >= asked
    assert set(parts.PURPOSES) == set(PROJECT["optional-dependencies"])
    assert {one.extra for one in versions.required()} == {None, *parts.PURPOSES}


def test_what_is_too_old_or_missing_fails_and_says_the_command(monkeypatch):
    there = {"flax": "0.11.9", "pillow": None}
    monkeypatch.setattr(versions, "installed", lambda name: there.get(name, "99"))
    failed = {check.name: check for check in versions.checks() if check.outcome == "failed"}
    assert set(failed) == set(there)
    assert failed["flax"].found == "0.11.9, expected >=0.12"
    assert failed["flax"].advice == pip_install("flax>=0.12")
    assert failed["pillow"].found.startswith("not installed")


def test_the_lock_s_mismatches_are_named():
    mine = version("numpy")
    other = f"numpy==0.1 \\\n    --hash=sha256:00\njax=={version('jax')} \\\n    --hash=sha256:00\n"
    found = versions.locked(other)
    assert (found.outcome, found.found) == ("note", f"1 of 2 differ: numpy {mine} (lock: 0.1)")
    elsewhere = f"numpy=={mine}\nno-such-package==1.0\nscipy==0.1 ; sys_platform == 'win32'\n"
    assert versions.locked(elsewhere).found.startswith("1 installed packages")


def test_a_part_says_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(parts, "installed", lambda name: None)
    found = {check.name: check for check in parts.checks()}
    assert found["parquet"].outcome == "note"
    assert found["parquet"].advice == pip_install("ctrak-jax[parquet]")
    monkeypatch.setattr(parts, "installed", lambda name: "4.57")
    found = {check.name: check for check in parts.checks()}
    assert found["parquet"].outcome == "note", "pyarrow 4.57 is older than 20"
    assert "pyarrow 4.57, expected >=20" in found["parquet"].found


def test_the_command_that_installs_is_the_running_interpreter_s(tmp_path, monkeypatch):
    """A shell runs it: the folder's name has a space, and brackets and ``>`` mean something."""
    python = tmp_path / "my envs" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "ctrak-jaxg").touch()
    monkeypatch.setattr(sys, "executable", str(python))
    for wanted in ("ctrak-jax[gpu]", "flax>=0.12"):
        ran = subprocess.run(
            pip_install(wanted), shell=True, cwd=tmp_path, capture_output=True, text=True
        )
        assert ran.stdout.splitlines() == ["-m", "pip", "install", wanted], ran.stderr


@pytest.mark.parametrize("folder", ["ctrak_jax", "benchmarks"])
def test_no_message_names_another_pip(folder):
    root = Path(__file__).parents[2]
    saying = {
        f"{file.relative_to(root)}:{node.lineno}"
        for file in (root / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Raise | ast.Assign | ast.Call | ast.Return)
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and "pip install" in str(part.value)
    }
    assert saying == set()
