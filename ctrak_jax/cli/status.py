"""``ctrak status``: what a run in another terminal is doing."""

import argparse
import json
import sys
import time
from pathlib import Path

from ctrak_jax.cli import arguments

CLEAR = "\x1b[2J\x1b[H"
"""Empties a terminal."""


def declare(parser: argparse.ArgumentParser) -> None:
    """The folder, ``--watch`` and ``--json``."""
    parser.add_argument("dir", metavar="DIR", type=Path, help="the folder of a run")
    parser.add_argument(
        "--watch",
        type=arguments.positive,
        metavar="N",
        help="say it again every N seconds until the run ends",
    )
    arguments.declare_json(parser)


def act(args: argparse.Namespace) -> None:
    """Read the folder and print what it says."""
    from ctrak_jax.run.state import status
    from ctrak_jax.terminal.status import text

    while True:
        found = status.describe(args.dir)
        clear = CLEAR if args.watch and sys.stdout.isatty() and not args.json else ""
        print(clear + (json.dumps(found) if args.json else text(found)), flush=True)
        if args.watch is None or found["state"] in status.ENDED:
            return
        time.sleep(args.watch)
