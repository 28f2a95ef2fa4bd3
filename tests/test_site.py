"""The site's own extensions: mathematics, links, and what is checked of the pages as built.

The site itself is built by `make docs`.
"""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from tests.paths import ROOT
from tests.test_method import PAGE

pytest.importorskip("sphinx")
pytest.importorskip("latex2mathml")


def extension(name: str) -> ModuleType:
    """An extension, which stands outside any package."""
    file = ROOT / "docs" / "_extensions" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"site_{name}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FORMULAS = re.findall(r"^\$\$\n(.*?)\n\\tag", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
equations, outside, checks = map(extension, ("equations", "outside", "checks"))


@pytest.mark.parametrize("latex", FORMULAS)
def test_every_equation_becomes_mathml(latex: str):
    tree = ElementTree.fromstring(equations.to_mathml(latex, block=True))
    shown = "".join(node.text or "" for node in tree.iter() if not node.tag.endswith("annotation"))
    assert shown
    assert "\\" not in shown


def test_the_equations_are_found():
    assert len(FORMULAS) > 50


def test_an_unknown_command_is_refused():
    with pytest.raises(ValueError, match="unheardof"):
        equations.to_mathml(r"x + \unheardof", block=False)


@pytest.mark.parametrize(
    ("link", "wanted"),
    [
        ("[a](docs/reference/data.md#pictures)", "[a](../reference/data.md#pictures)"),
        ("[a](benchmarks/README.md)", "[a](../results/measurements.md)"),
        ("[a](notebooks/01_quickstart.py)", "[a](../tutorials/01_quickstart.py)"),
        ("[a](README.md)", "[a](../index.md)"),
        ("[a](configs/lds.yaml)", "[a](../../configs/lds.yaml)"),
        ("[a](https://example.org/b.md)", "[a](https://example.org/b.md)"),
        ("[a](#here)", "[a](#here)"),
    ],
)
def test_links_follow_a_text_to_its_page(link: str, wanted: str):
    assert outside.relinked(link, "CHANGELOG.md", "docs/project/changes.md") == wanted


def test_code_stays_as_it_is():
    code = "```python\nf[0](docs/a.md)\nx = [0.5, 1.0]\n```\n"
    assert outside.relinked(code, "CHANGELOG.md", "docs/project/changes.md") == code
    cell = "f[0](docs/a.md)  # [a](docs/a.md)\n| [0.5, 1.0]\n"
    assert outside.relinked(cell, "notebooks/01_a.py", "docs/tutorials/01_a.py") == cell


def test_an_interval_in_a_table_stays_on_one_line():
    row = outside.relinked("| .5 [.4, .6] |", "docs/a.md", "docs/a.md")
    assert row == "| .5 [.4,\u00a0.6] |"


GOOD = '<h1 id="top">A</h1><a href="b.html#there">b</a><a href="https://example.org">c</a>'
OTHER = '<p id="there"></p><img src="a.png">'


@pytest.mark.parametrize(
    ("page", "wanted"),
    [
        (GOOD, ""),
        ('<a href="b.html#gone">b</a>', "no such place"),
        ('<a href="#gone">b</a>', "no such place"),
        ('<a href="c.html">c</a>', "no such file"),
        ('<script src="https://example.org/a.js"></script>', "fetches https://example.org/a.js"),
        ('<link href="//example.org/a.css">', "fetches //example.org/a.css"),
    ],
)
def test_dead_links_and_outside_requests_are_found(page: str, wanted: str, tmp_path: Path):
    (tmp_path / "a.html").write_text(page)
    (tmp_path / "b.html").write_text(OTHER)
    found = checks.faults(tmp_path)
    assert len(found) == bool(wanted)
    assert wanted in "".join(found)


def test_a_style_sheet_that_fetches_is_found(tmp_path: Path):
    (tmp_path / "a.css").write_text("@font-face { src: url(https://example.org/a.woff2) }")
    assert len(checks.faults(tmp_path)) == 1
