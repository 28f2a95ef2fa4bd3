"""The notebooks as they are written: their form, their imports, what they name. Building the site
executes them."""

import ast
import importlib.util
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from ctrak_jax import cli
from tests.paths import ROOT
from tests.test_docs import anchors, flags

jupytext = pytest.importorskip("jupytext", reason="needs the extra docs")

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
LAST = "## What to try next"

each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=[n.stem for n in NOTEBOOKS])


def cells(notebook: Path, kind: str) -> list[str]:
    found: Any = jupytext.read(notebook)
    return [cell.source for cell in found.cells if cell.cell_type == kind]


def test_they_are_numbered():
    numbers = [n.stem.partition("_")[0] for n in NOTEBOOKS]
    assert all(re.fullmatch(r"\d\d", number) for number in numbers)
    assert len(set(numbers)) == len(numbers)


@each_notebook
def test_the_text_has_one_title_and_ends_with_what_to_try_next(notebook: Path):
    first, *rest = cells(notebook, "markdown")
    assert re.match(r"# \S", first)
    assert not [cell for cell in rest if re.search(r"^# ", cell, re.MULTILINE)]
    last: Any = jupytext.read(notebook).cells[-1]
    assert last.cell_type == "markdown"
    assert last.source.startswith(f"{LAST}\n")


@each_notebook
def test_every_cell_is_python_of_declared_packages(notebook: Path):
    named = set()
    for cell in cells(notebook, "code"):
        for node in ast.walk(ast.parse(cell)):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                named.add(node.module)
                assert node.module is not None
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name) or importlib.util.find_spec(
                        f"{node.module}.{alias.name}"
                    ), f"{node.module}.{alias.name}"
                    assert not alias.name.startswith("_")
    packages = {name.partition(".")[0] for name in named if name}
    about = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {re.split(r"[<>=\[ ]", text)[0].lower() for text in about["dependencies"]}
    owners = metadata.packages_distributions()
    for package in packages - sys.stdlib_module_names - {"ctrak_jax"}:
        names = {owner.lower() for owner in owners[package]}
        assert names & declared, f"{package} is no dependency"


@each_notebook
def test_commands_and_links_exist(notebook: Path):
    for text in cells(notebook, "markdown"):
        for line in re.findall(r"`ctrak ([^`]*)`", text):
            first, *rest = line.split()
            name = f"{first} {rest[0]}" if rest and f"{first} {rest[0]}" in cli.COMMANDS else first
            assert name in cli.COMMANDS, line
            given = {word for word in rest if word.startswith("--")}
            assert given <= flags(name), line
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            name, _, anchor = target.partition("#")
            file = (notebook.parent / name).resolve()
            assert file.exists(), target
            assert not anchor or anchor in anchors(file), target


@each_notebook
def test_nothing_of_this_machine_is_named(notebook: Path):
    text = notebook.read_text("utf-8")
    assert not re.search(r"/(?:tmp|home|root|work|Users)/", text)
    assert not re.search(r"https?://", text)
