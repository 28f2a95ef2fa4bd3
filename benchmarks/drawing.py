"""The command line of the scripts that draw a data set."""

import argparse
from collections.abc import Callable
from inspect import signature
from pathlib import Path

from ctrak_jax.errors import UsageError


def command(about: str | None, draw: Callable[..., None]) -> None:
    """Draw into the folder ``--out``; errors are one line.

    Args:
        about: the script's docstring.
        draw: takes the folder ``out``, and numbers with defaults, each of which is a flag.
    """
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    _, *numbers = signature(draw).parameters.values()
    for one in numbers:
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=int, default=one.default)
    asked = parser.parse_args()
    if (asked.out / "images.npy").exists():
        parser.error(f"{asked.out} holds a data set already; give another --out, or delete it.")
    try:
        draw(**vars(asked))
    except UsageError as error:
        parser.error(str(error))
