"""``ctrak customise``: concepts taught to a text-to-image model by textual inversion."""

import argparse
import json

from ctrak_jax.cli import arguments
from ctrak_jax.errors import UsageError


def declare(parser: argparse.ArgumentParser) -> None:
    """A config, ``--minutes`` and ``--json``."""
    arguments.declare_config(parser)
    arguments.declare_minutes(parser)
    arguments.declare_json(parser)


def act(args: argparse.Namespace) -> None:
    """Customise, and print every concept. The folder written is the one that ``ctrak abc`` reads
    with the same config."""
    config = arguments.load_config(args)
    if config.data.kind != "abc":
        raise UsageError(
            f"data.kind={config.data.kind}: customise writes the files of an AbC benchmark; give "
            "--data.kind abc --data.path DIR, the folder to write."
        )
    assert config.data.path is not None  # the config sees to it
    out = args.out or config.data.path
    from ctrak_jax import customise, log
    from ctrak_jax.cli import compilation_cache
    from ctrak_jax.terminal.table import text_table

    log.deadline.set(args.minutes)
    compilation_cache.switch_on(config.run.compilation_cache)
    found = customise.run(config, out)
    if args.json:
        print(json.dumps(log.records()))
        return
    rows = [
        (c.name, c.kind, c.token, str(len(c.pictures)), f"{before:.4f}", f"{after:.4f}")
        for c, before, after in found
    ]
    heads = ("concept", "kind", "token"), ("pictures", "loss before", "after")
    print(text_table(str(out), *heads, rows), end="")
