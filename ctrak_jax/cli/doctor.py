"""``ctrak doctor``: is this installation sound?"""

import argparse
import json
from pathlib import Path

from ctrak_jax.cli import arguments
from ctrak_jax.errors import UsageError


def declare(parser: argparse.ArgumentParser) -> None:
    """``--dir`` and ``--json``."""
    parser.add_argument(
        "--dir",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="a folder on the disk where results go [here]",
    )
    arguments.declare_json(parser)


def act(args: argparse.Namespace) -> int:
    """Look, print what was found, and say by the exit status whether all of it is sound."""
    if not args.dir.is_dir():
        raise UsageError(f"--dir {args.dir}: no such folder; make it first.")
    from ctrak_jax import doctor
    from ctrak_jax.cli import compilation_cache

    found = doctor.examine(args.dir, compilation_cache.folder_of("auto"))
    print(json.dumps(doctor.as_json(found)) if args.json else doctor.text(found).rstrip())
    return int(any(check.outcome == "failed" for check in found))
