"""The arguments, for the command line and for ``python -m ctrak_jax.bench.accelerator``."""

import argparse
from pathlib import Path

from ctrak_jax.bench.accelerator import PARTS, run, save
from ctrak_jax.errors import UsageError


def declare(parser: argparse.ArgumentParser) -> None:
    """How long, which parts, and where the result goes."""
    parser.add_argument(
        "--minutes", type=float, default=4.0, help="it ends within so many minutes [4]"
    )
    listed = "; ".join(f"{name}: {text}" for name, text in PARTS.items())
    parser.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        metavar="PART",
        default=[],
        help=f"these: {listed}",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="also write it as JSON, Markdown and a chart"
    )


def act(args: argparse.Namespace) -> None:
    """Measure, print the tables and write the files asked for."""
    if not args.minutes >= 0:
        raise UsageError(f"--minutes {args.minutes:g} must be at least 0.")
    save(run(args.minutes, args.only), args.out)
