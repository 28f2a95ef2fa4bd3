"""``ctrak init``: a config for a folder of images."""

import argparse
import json
from pathlib import Path

from ctrak_jax.cli import arguments
from ctrak_jax.errors import UsageError

MINUTES = 35.0
"""How long one waits for a run, unless said otherwise."""


def declare(parser: argparse.ArgumentParser) -> None:
    """The folder, and where the config goes."""
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="the images (docs/reference/data.md)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the config [FOLDER's name.yaml]")
    parser.add_argument("--force", action="store_true", help="overwrite the config")
    parser.add_argument(
        "--kind",
        choices=("dit", "text-to-image"),
        help="model.kind [dit where there are attributes, else text-to-image]",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=MINUTES,
        metavar="M",
        help=f"how long a run may take here, about [{MINUTES:g}]",
    )
    arguments.declare_json(parser)


def act(args: argparse.Namespace) -> None:
    """Look, choose, write the config, and say what was chosen and why."""
    if not 1 <= args.minutes < float("inf"):
        raise UsageError(f"--minutes {args.minutes:g} must be at least 1.")
    file: Path = args.out or Path(f"{args.folder.resolve().name or 'images'}.yaml")
    if file.exists() and not args.force:
        raise UsageError(f"{file} is already there; give another --out, or --force to overwrite.")
    if not file.parent.is_dir():
        raise UsageError(f"--out {file}: no such folder; make it first.")
    from ctrak_jax import start
    from ctrak_jax.store.files import write_atomically

    facts = start.look(args.folder)
    start.require_possible(facts, args.kind)  # measuring takes a while
    proposal = start.propose(facts, start.measured(args.minutes), args.kind)
    write_atomically(file, start.written(proposal, str(file)))
    if args.json:
        print(json.dumps(start.as_json(proposal, str(file))))
    else:
        print(start.text(proposal, str(file)), end="")
