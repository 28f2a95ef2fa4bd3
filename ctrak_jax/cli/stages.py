"""``ctrak run``, and each of its stages: ``ctrak train``, ``ctrak featurize``, ..."""

import argparse
import json

from ctrak_jax.cli import arguments


def declare(parser: argparse.ArgumentParser) -> None:
    """The arguments of a stage."""
    arguments.declare_config(parser)
    arguments.declare_minutes(parser)
    arguments.declare_processes(parser)
    arguments.declare_json(parser)


def act(args: argparse.Namespace) -> None:
    """The stage that the command names, or all of them; then what there is to say of it."""
    config, out = arguments.load(args)
    from ctrak_jax import hosts, log, pipeline
    from ctrak_jax.cli import compilation_cache
    from ctrak_jax.terminal import summary

    log.deadline.set(args.minutes)
    arguments.join(args)
    compilation_cache.switch_on(config.run.compilation_cache)
    name = args.command
    stages = pipeline.stages_of(config) if name == "run" else (name,)
    pipeline.run(config, out, stages)
    if not hosts.is_first():
        return
    if "evaluate" in stages:
        print(json.dumps(summary.read(out)) if args.json else summary.table(out))
    elif args.json:
        print(json.dumps(log.records()))
    elif name == "run":
        words = "in words: ctrak attribute --prompt ... --concepts ..."
        if config.model.kind == "dit":
            words = f"by a reward: ctrak attribute {out} --image FILE --method reward"
        print(f"no attribute to ask about; ask {words}")
