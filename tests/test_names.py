"""The package's public names: loaded when first used, and known to type checkers alike."""

import ast
import importlib
from pathlib import Path

import pytest

import ctrak_jax as ct

LOADED = ct._MODULES


def test_type_checkers_are_told_the_same_names_from_the_same_modules():
    told = {
        alias.name: alias.name if node.module == "ctrak_jax" else (node.module or "")[10:]
        for node in ast.walk(ast.parse(Path(ct.__file__).read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ctrak_jax")
        for alias in node.names
    }
    assert told == LOADED


@pytest.mark.parametrize("name", LOADED)
def test_a_name_is_its_module_s(name):
    module = importlib.import_module(f"ctrak_jax.{LOADED[name]}")
    assert getattr(ct, name) is (module if LOADED[name] == name else getattr(module, name))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'ctrak_jax' has no attribute 'nothing'"):
        ct.nothing  # noqa: B018


def test_all_names_are_listed_and_imported_by_a_star():
    assert {*LOADED, "__version__"} <= set(dir(ct))
    scope: dict[str, object] = {}
    exec("from ctrak_jax import *", scope)
    assert set(LOADED) <= set(scope)


def test_the_version_is_the_installed_one():
    assert ct.__version__.count(".") >= 1
