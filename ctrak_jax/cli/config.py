"""``ctrak config``: the full resolved config."""

import argparse

from ctrak_jax import config
from ctrak_jax.cli import arguments

declare = arguments.declare_config


def act(args: argparse.Namespace) -> None:
    """Print the config as YAML."""
    print(config.dump(arguments.load(args).config), end="")
