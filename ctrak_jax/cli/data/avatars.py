"""``ctrak data avatars``: the avatar benchmark."""

import argparse
from pathlib import Path


def declare(parser: argparse.ArgumentParser) -> None:
    """The folder, and what is drawn."""
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="the folder")
    parser.add_argument("--size", type=int, default=32, help="side in pixels [32]")
    parser.add_argument(
        "--per-combination", type=int, default=8, help="pictures of each of 1,440 combinations [8]"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the pictures [0]")


def act(args: argparse.Namespace) -> None:
    """Draw the pictures and print the folder."""
    from ctrak_jax.data import draw_avatars

    draw_avatars(args.out, size=args.size, per_combination=args.per_combination, seed=args.seed)
    print(args.out)
