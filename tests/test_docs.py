"""What the pages say exists does: links, commands, flags, settings, files; the README is short."""

import argparse
import re
import shlex
import tomllib
from functools import cache
from pathlib import Path
from pkgutil import resolve_name

import pytest
import yaml

import ctrak_jax
from ctrak_jax import cli, config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("benchmarks/*.md"))]
PAGES += sorted(ROOT.glob("docs/**/*.md"))
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FILES = (".json", ".md", ".npy", ".csv", ".py", ".yaml", ".png", ".txt", ".zarr", ".jsonl")

each_page = pytest.mark.parametrize("page", PAGES, ids=NAMES)


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    bare = re.sub(r"^```.*?^```", "", text(page), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"^ {4}.*$", "", bare, flags=re.MULTILINE)


def code(page: Path) -> list[str]:
    """A page's pieces of code: spans between backticks and lines of indented blocks."""
    spans = re.findall(r"`([^`]+)`", prose(page))
    return [" ".join(s.split()) for s in spans] + re.findall(r"^ {4}(.*)$", text(page), re.M)


@cache
def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@cache
def flags(command: str) -> set[str]:
    """The flags of a command."""
    parser = argparse.ArgumentParser()
    cli.module_of(command).declare(parser)
    return {flag for action in parser._actions for flag in action.option_strings}


@each_page
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@each_page
def test_commands_and_their_flags_exist(page: Path):
    for piece in code(page):
        for line in re.findall(r"\bctrak ([a-z][^;&]*)", piece):
            names, *rest = shlex.split(re.sub(r"['\\\\]", "", line), comments=True)
            if rest and f"{names} {rest[0]}" in cli.COMMANDS:
                names = f"{names} {rest[0]}"
            for name in names.split("|"):
                assert name in cli.COMMANDS, line
            given = {word.strip("[],.") for word in rest if word.lstrip("[").startswith("--")}
            assert given <= flags(names.split("|")[0]) | {"--section.field"}, line


@each_page
def test_settings_exist(page: Path):
    sections = config.sections()
    for piece in code(page):
        for section, field in re.findall(r"(?<![\w./])(?:--)?(\w+)\.(\w+)\b(?!\()", piece):
            if section in sections and f".{field}" not in FILES:
                assert field in sections[section].model_fields, f"{section}.{field}"


def test_the_citation_has_the_version_of_the_package():
    citation = yaml.safe_load(text(ROOT / "CITATION.cff"))
    project = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])


@each_page
def test_files_modules_and_targets_exist(page: Path):
    makefile = text(ROOT / "Makefile")
    for piece in code(page):
        for name in re.findall(r"(?<![\w./])(?:configs|tests|ctrak_jax|notebooks)/[\w./-]+", piece):
            assert (ROOT / name.rstrip(".")).exists(), name
        for name in re.findall(r"python -m (benchmarks\.\w+)", piece):
            assert (ROOT / f"{name.replace('.', '/')}.py").exists(), name
        for target in re.findall(r"^make ([a-z-]+)", piece):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@each_page
def test_names_in_the_package_exist(page: Path):
    for piece in code(page):
        for name in re.findall(r"(?<![\w./])ctrak_jax(?:\.\w+)+", piece):
            resolve_name(name)
        for names in re.findall(r"^from (ctrak_jax[\w.]* import .+)$", piece):
            module, _, members = names.partition(" import ")
            for member in members.split(", "):
                resolve_name(f"{module}.{member}")
        for name in re.findall(r"(?<![\w./])ct\.([a-zA-Z_]\w*)", piece):
            resolve_name(f"ctrak_jax.{name}")


def test_pages_name_what_is_in_the_package():
    """Not in vain looks the test above for names."""
    found = [
        n for page in PAGES for piece in code(page) for n in re.findall(r"ctrak_jax\.\w+", piece)
    ]
    assert len(found) > 5


def test_every_public_name_is_in_the_reference():
    pages = [*ROOT.glob("docs/reference/api/*.md")]
    named = {name for page in pages for name in re.findall(r"`ct\.(\w+)`", text(page))}
    assert set(ctrak_jax.__all__) == named
    shown = {name for page in pages for name in re.findall(r"automodule:: (\S+)", text(page))}
    assert {f"ctrak_jax.{module}" for module in ctrak_jax._NAMES} <= shown


@each_page
def test_a_page_has_one_title(page: Path):
    assert len(re.findall(r"^# ", prose(page), re.MULTILINE)) == 1


def test_the_readme_is_short():
    assert len(text(ROOT / "README.md").split()) <= 900


def test_every_page_is_found_from_the_readme():
    found, new = set[Path](), {ROOT / "README.md"}
    while new:
        page = new.pop()
        found.add(page)
        links = re.findall(r"\]\(([^)\s#]+)[^)]*\)", prose(page))
        pages = {(page.parent / link).resolve() for link in links if link.endswith(".md")}
        new |= pages - found
    assert set(PAGES) <= found
