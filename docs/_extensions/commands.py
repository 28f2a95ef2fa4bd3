"""The commands and their arguments, as the command line itself declares them."""

import argparse
import re
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx

from ctrak_jax import cli

PAGE = "reference/commands"
MARK = "<!-- every command, from the program -->"


def arguments(command: str) -> Iterator[tuple[str, str]]:
    """What a command takes beside settings: how it is written, and what it means."""
    parser = argparse.ArgumentParser(add_help=False)
    cli.module_of(command).declare(parser)
    for action in parser._actions:
        setting = any("." in flag for flag in action.option_strings)
        if action.help == argparse.SUPPRESS or setting or action.default is argparse.SUPPRESS:
            continue
        name = action.option_strings[0] if action.option_strings else ""
        value = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
        if isinstance(value, tuple):
            value = " ".join(value)
        text = (action.help or "").replace("%%", "%").replace("|", "\\|")
        yield f"{name} {value}".strip(), re.sub(r"--[a-z-]+", r"`\g<0>`", text)


def described() -> Iterator[str]:
    """A section per command, in Markdown."""
    for command, text in cli.COMMANDS.items():
        yield f"### ctrak {command}\n"
        yield f"{text[0].upper()}{text[1:]}.\n"
        if rows := list(arguments(command)):
            yield "| argument | meaning |\n|---|---|"
            yield from (f"| `{name}` | {text} |" for name, text in rows)
            yield ""


def read(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the commands in the place of the mark."""
    if docname == PAGE:
        assert MARK in source[0]
        source[0] = source[0].replace(MARK, "\n".join(described()))


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
