"""``ctrak demo``: a first answer, from the package alone."""

import argparse
import json
from pathlib import Path

from ctrak_jax.cli import arguments

OUT = Path("runs/demo")


def declare(parser: argparse.ArgumentParser) -> None:
    """``--out``, ``--train`` and ``--json``."""
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"where the run goes [{OUT}, trained: {OUT}-trained]",
    )
    parser.add_argument(
        "--train", action="store_true", help="train the model instead of taking the package's"
    )
    arguments.declare_json(parser)


def act(args: argparse.Namespace) -> None:
    """Run the demo and print its answer, the picture and the report, and what to do next."""
    out = args.out or (OUT.with_name(f"{OUT.name}-trained") if args.train else OUT)
    from ctrak_jax import demo
    from ctrak_jax.cli import compilation_cache

    compilation_cache.switch_on(demo.config().run.compilation_cache)
    answer = demo.run(out, trained=args.train)
    print(json.dumps(answer.as_json) if args.json else answer.text.rstrip())
