"""The method's page and what cites it: numbers exist once, displayed equations are the page's."""

import ast
import io
import re
import tokenize
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from ctrak_jax.config import Config
from tests.paths import ROOT

PAGE = ROOT / "docs" / "explanation" / "method.md"
NUMBER = r"\((?:\d+|[A-Z])\.\d+\)"
LINK = r"(?:, and | and | to |, )"
EQUATIONS = re.compile(rf"\b[Ee]quations? ({NUMBER}(?:{LINK}{NUMBER})*)")
SECTIONS = re.compile(rf"\bmethod\.md, sections? ((?:\d+|[A-Z]\b)(?:{LINK}(?:\d+|[A-Z]\b))*)")
OTHER_FORMS = re.compile(
    rf"(?<![\w.]){NUMBER}|\b[Ee]quations? \(?\d|\b[Ss]ections? \d|\bmethod, section"
)
DISPLAYED = re.compile(r"\.\. math::((?:(?!\.\. math::).)*?)\\tag\{(.*?)\}", re.DOTALL)


class Method(NamedTuple):
    """What the page numbers: its sections, and its equations without their white space."""

    sections: list[str]
    equations: list[tuple[str, str]]
    anchors: set[str]


def squeezed(text: str) -> str:
    return "".join(text.split())


def read(page: str) -> Method:
    blocks = re.findall(r"^\$\$\n(.*?)\n\$\$$", page, re.DOTALL | re.MULTILINE)
    equations = []
    for block in blocks:
        equation, _, tag = block.rpartition("\n\\tag{")
        assert equation, f"an equation without a number: {block}"
        equations.append((tag.removesuffix("}"), squeezed(equation)))
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
    sections = re.findall(r"^## (\d+|[A-Z])\. ", page, re.MULTILINE)
    return Method(sections, equations, anchors)


METHOD = read(PAGE.read_text("utf-8"))


def said(source: str) -> list[str]:
    """Docstrings and comments of a module; comments on neighbouring lines are one."""
    texts = [
        node.value.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    comments = [
        token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    ]
    return [*texts, " ".join(comments)]


def faults(text: str, method: Method = METHOD, *, strict: bool = True) -> list[str]:
    """Citations in a text of what the page does not number.

    Args:
        text: docstrings and comments, or Markdown.
        strict: a number in any other form than the two is a fault.
    """
    text = " ".join(text.split())
    known = {number for number, _ in method.equations}
    cited = [n.strip("()") for found in EQUATIONS.findall(text) for n in re.findall(NUMBER, found)]
    found = [f"equation ({number})" for number in cited if number not in known]
    for listed in SECTIONS.findall(text):
        names = re.split(LINK, listed)
        found += [f"section {name}" for name in names if name not in method.sections]
    for anchor in re.findall(r"method\.md#([\w-]+)", text):
        found += [f"#{anchor}"] * (anchor not in method.anchors)
    if strict:
        rest = SECTIONS.sub("", EQUATIONS.sub("", text))
        found += [match.group() for match in OTHER_FORMS.finditer(rest)]
    return found


def modules() -> list[Path]:
    folders = ("ctrak_jax", "benchmarks", "tests")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    return sorted(file for file in files if file != Path(__file__))


def pages() -> list[Path]:
    return sorted(
        [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/**/*.md")]
    )


@cache
def text_of(file: Path) -> list[str]:
    return said(file.read_text("utf-8"))


def test_sections_and_equations_are_numbered_once_and_in_order():
    counts: Counter[str] = Counter()
    for number, _ in METHOD.equations:
        section, _, place = number.partition(".")
        counts[section] += 1
        assert section in METHOD.sections, number
        assert int(place) == counts[section], number
    assert len(set(METHOD.sections)) == len(METHOD.sections)
    order = list(dict.fromkeys(number.partition(".")[0] for number, _ in METHOD.equations))
    assert order == [section for section in METHOD.sections if section in order]


def test_the_page_refers_to_itself_rightly():
    page = " ".join(PAGE.read_text("utf-8").split())
    known = {f"({number})" for number, _ in METHOD.equations}
    assert set(re.findall(NUMBER, page)) <= known
    assert set(re.findall(r"\bsection (\d+|[A-Z]\b)", page)) <= set(METHOD.sections)
    assert set(re.findall(r"\]\(#([\w-]+)\)", page)) <= METHOD.anchors


def test_defaults_in_brackets_are_those_of_the_config():
    page = " ".join(PAGE.read_text("utf-8").split())
    named = re.findall(r"`(\w+)\.(\w+)` \[([^\]]*)\]", page)
    assert len(named) > 15
    for section, field, wanted in named:
        value = getattr(getattr(Config(), section), field)
        assert type(value)(wanted) == value, f"{section}.{field} [{wanted}]"


def test_every_citation_in_the_code_exists_and_has_the_one_form():
    wrong = {
        f"{file.relative_to(ROOT)}: {fault}"
        for file in modules()
        for text in text_of(file)
        for fault in faults(text)
    }
    assert not wrong
    cited = " ".join(" ".join(text_of(file)) for file in modules())
    assert len(EQUATIONS.findall(cited)) > 30, "the citations are not found"


def test_every_citation_in_the_documents_exists():
    wrong = {
        f"{file.relative_to(ROOT)}: {fault}"
        for file in pages()
        for fault in faults(file.read_text("utf-8"), strict=False)
    }
    assert not wrong


def test_displayed_equations_are_those_of_the_page():
    shown: Counter[str] = Counter()
    for file in modules():
        for text in text_of(file):
            found = DISPLAYED.findall(text)
            assert len(found) == text.count(".. math::"), f"{file}: an equation without a number"
            for equation, number in found:
                shown[number] += 1
                assert (number, squeezed(equation)) in METHOD.equations, f"{file}: ({number})"
    assert shown
    assert max(shown.values()) == 1, "an equation is displayed in two modules"


PLANTED = {
    "equation": ("as in equation (1.9)", ["equation (1.9)"]),
    "second of two": ("Equations (1.1) to (1.9).", ["equation (1.9)"]),
    "old number": ("equation (7)", ["equation (7"]),
    "bare number": ("the noise of (1.1)", ["(1.1)"]),
    "section": ("(method.md, sections 1 and 7)", ["section 7"]),
    "old section": ("(method, section 1)", ["method, section"]),
    "anchor": ("docs/explanation/method.md#2-nothing", ["#2-nothing"]),
    "none": ("equation (1.1), method.md, section 1, method.md#1-setting", []),
}


@pytest.mark.parametrize(("text", "wanted"), PLANTED.values(), ids=PLANTED)
def test_a_wrong_citation_is_found(text: str, wanted: list[str]):
    page = "## 1. Setting\n\n$$\nx = y\n\\tag{1.1}\n$$\n"
    assert sorted(faults(text, read(page))) == sorted(wanted)
