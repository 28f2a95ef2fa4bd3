"""``ctrak data``: a config's data set in the folder format."""

import argparse

from ctrak_jax.cli import arguments
from ctrak_jax.errors import UsageError

declare = arguments.declare_config


def act(args: argparse.Namespace) -> None:
    """Write the folder and print its name."""
    config = arguments.load_config(args)
    if args.out is None:
        raise UsageError("--out is missing; give the folder to write the images to.")
    from ctrak_jax.data import build, write_folder

    write_folder(build(config.data).raw, args.out)
    print(args.out)
