"""The shape of the package: names, sizes, nesting, and who knows what."""

import ast
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ctrak_jax"
MODULES = {path.relative_to(PACKAGE): path.read_text() for path in PACKAGE.rglob("*.py")}
TREES = {path: ast.parse(text) for path, text in MODULES.items()}
BLOCKS = (ast.For, ast.While, ast.If, ast.With, ast.Try, ast.Match, ast.FunctionDef)


def depth(node: ast.AST) -> int:
    """How many blocks stand inside one another; ``elif`` is no block of its own."""
    if isinstance(node, ast.If) and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
        other = depth(node.orelse[0])
        return max(other, 1 + max(map(depth, node.body)))
    inside = max(map(depth, ast.iter_child_nodes(node)), default=0)
    return inside + isinstance(node, BLOCKS)


def test_no_two_classes_share_a_name():
    names = [
        node.name
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_no_file_is_longer_than_400_lines():
    lengths = {str(path): len(text.splitlines()) for path, text in MODULES.items()}
    assert {path: length for path, length in lengths.items() if length > 400} == {}


def test_no_folder_holds_more_than_16_files():
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    folders = Counter(str(path.parent.relative_to(PACKAGE)) for path in files)
    assert {folder: count for folder, count in folders.items() if count > 16} == {}


def test_no_function_nests_deeper_than_four():
    deep = {
        f"{path}: {node.name}": depth(node) - 1
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and depth(node) - 1 > 4
    }
    assert deep == {}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x", 0),
        ("if a:\n x\nelif b:\n x\nelse:\n x", 1),
        ("for a in b:\n if a:\n  with c:\n   x", 3),
        ("if a:\n x\nelse:\n for b in c:\n  x", 2),
        ("try:\n x\nexcept E:\n if a:\n  x", 2),
        ("def f():\n [g for g in h if g]", 1),
    ],
)
def test_depth_counts_blocks(source, expected):
    assert depth(ast.parse(source)) == expected


def test_the_context_of_a_run_is_known_to_the_stages_and_their_commands_alone():
    allowed = ("stages", "abc", "cli")
    knowing = {
        str(path)
        for path, tree in TREES.items()
        if path.parts[0] not in allowed and str(path) != "pipeline.py"
        for node in ast.walk(tree)
        if (isinstance(node, ast.ImportFrom) and node.module == "ctrak_jax.stages.context")
        or (isinstance(node, ast.arg) and node.arg == "ctx")
    }
    assert knowing == set()


def test_the_method_takes_values_and_no_context():
    method = {path: text for path, text in MODULES.items() if path.parts[0] == "attribution"}
    assert method
    assert [str(path) for path, text in method.items() if "ctx" in text] == []
