"""``ctrak tune``: a LoRA on a folder of images with captions."""

import argparse
import json

from ctrak_jax.cli import arguments


def declare(parser: argparse.ArgumentParser) -> None:
    """A config, ``--minutes`` and ``--json``."""
    arguments.declare_config(parser)
    arguments.declare_minutes(parser)
    arguments.declare_json(parser)


def act(args: argparse.Namespace) -> None:
    """Train, and print the file. A run with the LoRA is of another model than the one that is
    tuned, so by default the results have a folder of their own."""
    config, out = arguments.load(args)
    if args.out is None and not args.config.is_dir():
        out = out.with_name(f"{out.name}-lora")
    from ctrak_jax import log, pipeline
    from ctrak_jax.cli import compilation_cache

    log.deadline.set(args.minutes)
    compilation_cache.switch_on(config.run.compilation_cache)
    files = pipeline.run_tune(config, out)
    if args.json:
        print(json.dumps(log.records()))
        return
    for file in files:
        print(file)
    print(f"which images taught it: ctrak run {args.config} --model.lora {files[0]}")
