"""``python -m ctrak_jax.bench.accelerator``: where the command line's libraries are missing."""

import argparse

from ctrak_jax.cli.bench import accelerator

parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
accelerator.declare(parser)
accelerator.act(parser.parse_args())
