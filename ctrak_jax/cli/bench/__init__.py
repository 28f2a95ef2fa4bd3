"""``ctrak bench``: throughput of the hot parts on this machine."""

import argparse
import json
from pathlib import Path

from ctrak_jax.errors import UsageError

BENCHES = ("featurize", "projection", "scaling", "scoring", "solve")
"""The names in :data:`ctrak_jax.bench.BENCHES`, which loads JAX."""


def declare(parser: argparse.ArgumentParser) -> None:
    """What is timed, at what size, and where the result goes."""
    parser.add_argument("what", choices=BENCHES, help="what is timed")
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="also write the result as JSON; without a FILE, print it in place of the table",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="also write it as JSON, Markdown and a bar chart"
    )
    parser.add_argument("--batch", type=int, default=32, help="samples per call [32]")
    parser.add_argument("--k", type=int, default=4096, help="length of a feature [4096]")
    parser.add_argument(
        "--rows", type=int, default=100_000, help="features on disk (scoring) [100000]"
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed calls [5]")


def act(args: argparse.Namespace) -> None:
    """Time it, print the table and write the files asked for."""
    for flag in ("batch", "rows", "repeats"):
        if getattr(args, flag) < 1:
            raise UsageError(f"--{flag} {getattr(args, flag)} must be at least 1.")
    if args.k < 32 or args.k % 32:
        raise UsageError(f"--k {args.k} must be a multiple of 32.")
    if args.json not in (None, "-") and not Path(args.json).parent.is_dir():
        raise UsageError(f"--json {args.json}: no such folder; make it first.")
    from ctrak_jax import bench

    result = bench.run(args.what, bench.Sizes(args.batch, args.k, args.rows, args.repeats))
    if args.json not in (None, "-"):
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    if args.out is not None:
        bench.write(result, args.out)
    print(json.dumps(result, indent=1) if args.json == "-" else bench.table(result))
