"""Docstrings: entries of Args and Attributes stand one per line and name what is there."""

import ast
import re
from collections.abc import Iterator

from tests.paths import ROOT

ENTRY = re.compile(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*): ")
Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def names_of(node: Documented) -> set[str]:
    """Arguments of a function; fields and properties of a class, and arguments it is made from."""
    if not isinstance(node, ast.ClassDef):
        spec = node.args
        several = [a for a in (spec.vararg, spec.kwarg) if a]
        return {a.arg for a in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs, *several)}
    names: set[str] = set()
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            names.add(item.target.id)
        elif isinstance(item, ast.FunctionDef):
            names |= {item.name} | (names_of(item) if item.name == "__init__" else set())
    return names


def entries(docstring: str) -> Iterator[str]:
    """The entries of both sections, each on one line."""
    for section in re.findall(
        r"^ *(?:Args|Attributes):\n((?:    +.*(?:\n|$))*)", docstring, re.MULTILINE
    ):
        for entry in re.split(r"\n(?=    \S)", section.rstrip("\n")):
            yield " ".join(entry.split())


def faults(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, Documented) or not (text := ast.get_docstring(node)):
            continue
        names = names_of(node)
        for entry in entries(text):
            head = ENTRY.match(entry)
            listed = set(head[1].replace("*", "").split(", ")) if head else set()
            if not listed or not listed <= names:
                found.append(f"{node.name}: {entry[:60]!r} names nothing of it")
            inside = names.intersection(re.findall(r"[.;?)] (\w+): ", entry))
            found += [f"{node.name}: {name!r} begins inside a line" for name in inside]
    return found


def test_entries_stand_one_per_line_and_name_what_is_there():
    files = sorted((ROOT / "ctrak_jax").rglob("*.py"))
    found = {str(file.relative_to(ROOT)): faults(file.read_text("utf-8")) for file in files}
    assert files
    assert not {file: wrong for file, wrong in found.items() if wrong}


def test_a_wrong_entry_is_found():
    function = 'def f(a, b):\n    """F.\n\n    Args:\n        {}\n    """\n'
    assert not faults(function.format("a: one.\n        b: two\n            lines."))
    assert faults(function.format("a: one. b: two."))
    assert faults(function.format("c: three."))
