"""``ctrak info``: what a run or a store holds."""

import argparse
import json

from ctrak_jax.cli import arguments


def declare(parser: argparse.ArgumentParser) -> None:
    """The folder and ``--json``."""
    parser.add_argument("dir", metavar="DIR", help="a run, or one feature store, also by its URL")
    arguments.declare_json(parser)


def act(args: argparse.Namespace) -> None:
    """Verify what is there and print it."""
    from ctrak_jax.run import info
    from ctrak_jax.terminal.info import text

    found = info.describe(args.dir)
    print(json.dumps(found, indent=1) if args.json else text(found))
