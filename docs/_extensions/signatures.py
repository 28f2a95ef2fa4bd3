"""Signatures as the source writes them: ``Image``, ``Float[Array, "sample proj"]``.

What jaxtyping makes of an annotation when it is evaluated says less, at greater length.
"""

import ast
import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode


@cache
def tree(module: ModuleType) -> ast.Module:
    """The source of a module."""
    return ast.parse(inspect.getsource(module))


def definition(obj: Any) -> ast.stmt | None:
    """The source of a function or class."""
    obj = inspect.unwrap(obj)
    try:
        lines = inspect.getsource(obj)
    except (OSError, TypeError):
        return None
    found = ast.parse(inspect.cleandoc("\n" + lines) if lines[0].isspace() else lines).body
    return found[0] if found else None


def written(node: ast.expr | None) -> str:
    """An expression as the source has it; a shape in one pair of quotation marks."""
    return ast.unparse(node) if node else ""


def of_function(node: ast.FunctionDef, *, method: bool) -> tuple[str, str]:
    """Arguments and result of a function."""
    spec = node.args
    first = [*spec.posonlyargs, *spec.args]
    if method and first:
        (spec.posonlyargs or spec.args).pop(0)
        if len(spec.defaults) > len(spec.posonlyargs) + len(spec.args):
            spec.defaults.pop(0)
    return f"({ast.unparse(spec)})", written(node.returns)


def of_class(node: ast.ClassDef, cls: type) -> tuple[str, str] | None:
    """The fields of a NamedTuple or dataclass as arguments, or how a protocol is called."""
    calls = [i for i in node.body if isinstance(i, ast.FunctionDef) and i.name == "__call__"]
    if getattr(cls, "_is_protocol", False):
        return of_function(calls[0], method=True) if calls else ("", "")
    if not (dataclasses.is_dataclass(cls) or hasattr(cls, "_fields")):
        return None
    shown = []
    for base in reversed(cls.__mro__):
        body = definition(base) if base.__module__.startswith("ctrak_jax") else None
        for item in body.body if isinstance(body, ast.ClassDef) else []:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                default = f" = {ast.unparse(item.value)}" if item.value else ""
                shown.append(f"{item.target.id}: {written(item.annotation)}{default}")
    return f"({', '.join(shown)})", ""


def signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, given: str, result: str
) -> tuple[str, str] | None:
    """Arguments and result as the source has them, where there is a source."""
    if what not in ("function", "method", "class"):
        return None
    node = definition(obj)
    if isinstance(node, ast.FunctionDef):
        bound = what == "method" and not any(
            "staticmethod" in ast.unparse(d) for d in node.decorator_list
        )
        return of_function(node, method=bound)
    return of_class(node, obj) if isinstance(node, ast.ClassDef) else None


def skip(app: Sphinx, what: str, name: str, obj: Any, skipped: bool, options: Any) -> bool | None:
    """Fields of a NamedTuple stand in its signature and among its variables."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def assignments(module: str) -> Iterator[tuple[str, str]]:
    """Names of a module and what they are set to, where that is short."""
    for node in tree(sys.modules[module]).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, ast.unparse(node.value)


def docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """A type alias says what it stands for; "Gives u: ..." is no type and its meaning."""
    if what in ("data", "attribute", "property"):
        lines[:0] = ["..", ""]  # the Google form reads a colon of the first line so
    module, _, alias = name.rpartition(".")
    if what == "data" and module in sys.modules and not isinstance(obj, dict | list | tuple | str):
        value = dict(assignments(module)).get(alias, "")
        if value and len(value) < 200:
            lines += ["", f"``{alias} = {value}``", ""]


def corrected(app: Sphinx, document: nodes.document) -> None:
    """Take out autodoc's own line about aliases, and say where names come from: Sphinx takes
    ``Path`` for any object of this name."""
    for name in document.findall(pending_xref):
        here = sys.modules.get(name.get("py:module"))
        found = getattr(here, name["reftarget"], None) if name["reftype"] == "class" else None
        origin = getattr(found, "__module__", None) or ""
        if found is not None and not origin.startswith("ctrak_jax"):
            name["reftarget"] = f"{origin}.{name['reftarget']}"
    for paragraph in list(document.findall(nodes.paragraph)):
        if re.match(r"alias of ", paragraph.astext()):
            paragraph.parent.remove(paragraph)


def resolve(app: Sphinx, env: BuildEnvironment, node: Any, shown: nodes.Element) -> Any:
    """A name without its module, where one object alone has it: ``Loss``, ``:func:`project```."""
    if node.get("refdomain") != "py":
        return None
    last = node["reftarget"].rpartition(".")[2]
    objects = env.domains.python_domain.objects
    found = {name: entry for name, entry in objects.items() if name.endswith(f".{last}")}
    here = getattr(sys.modules.get(node.get("py:module")), last, None)
    if node["reftarget"].startswith("ctrak_jax."):  # where the package shows it: ctrak_jax.top_k
        here = resolve_name(node["reftarget"])
        found = {name: entry for name, entry in found.items() if resolve_name(name) is here}
    if len(found) != 1:
        return None
    if node["reftype"] == "class" and here is not resolve_name(next(iter(found))):
        return None  # pathlib.Path is not ctrak_jax.trajectory.Path
    name, entry = found.popitem()
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, shown, name)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-docstring", docstring, priority=400)
    app.connect("missing-reference", resolve)
    app.connect("doctree-read", corrected)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
