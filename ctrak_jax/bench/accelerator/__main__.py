"""``python -m ctrak_jax.bench.accelerator``: where the command line's libraries are missing."""

import argparse

from ctrak_jax.bench.accelerator import command

parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
command.declare(parser)
command.act(parser.parse_args())
