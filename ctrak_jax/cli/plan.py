"""``ctrak plan``: what featurizing takes on a TPU topology, without a TPU."""

import argparse
import json
import math

from ctrak_jax.cli import arguments
from ctrak_jax.errors import UsageError


def declare(parser: argparse.ArgumentParser) -> None:
    """A config, the topology, and how much is featurized."""
    arguments.declare_settings(parser)
    parser.add_argument(
        "--topology",
        required=True,
        metavar="NAME",
        help="e.g. v4:2x2x1, v5e:16x16, v5p:4x4x4, v6e:2x2, tpu7x:2x2x1",
    )
    parser.add_argument(
        "--samples", type=float, default=1e6, help="training samples to featurize [1e6]"
    )
    parser.add_argument(
        "--batch", type=int, help="samples per chip at a time [gradient.batch over all chips]"
    )
    parser.add_argument(
        "--only", action="store_true", help="no search for the largest batch: one compilation"
    )
    parser.add_argument(
        "--estimate", action="store_true", help="no compiler: from the traced program, in a minute"
    )
    arguments.declare_json(parser)


def act(args: argparse.Namespace) -> None:
    """Compile for the topology and print what the program takes."""
    if not math.isfinite(args.samples) or args.samples < 1 or args.samples % 1:
        raise UsageError(f"--samples {args.samples:g} must be a whole number of at least 1.")
    if args.batch is not None and args.batch < 1:
        raise UsageError(f"--batch {args.batch} must be at least 1.")
    config = arguments.load_config(args)
    from ctrak_jax import plan
    from ctrak_jax.plan.show import text

    found = plan.run(
        config,
        args.topology,
        samples=int(args.samples),
        batch=args.batch,
        only=args.only,
        estimate=args.estimate,
    )
    print(json.dumps(found, indent=1) if args.json else text(found), end="\n" * args.json)
