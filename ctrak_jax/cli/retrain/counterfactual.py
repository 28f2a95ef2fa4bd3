"""``ctrak counterfactual``: retraining without the top samples."""

import argparse
import json
from dataclasses import asdict

from ctrak_jax.cli import arguments


def declare(parser: argparse.ArgumentParser) -> None:
    """A config, ``--minutes`` and ``--json``."""
    arguments.declare_config(parser)
    arguments.declare_minutes(parser)
    arguments.declare_json(parser)


def act(args: argparse.Namespace) -> None:
    """Retrain, generate, and print what came of it."""
    config, out = arguments.load(args)
    from ctrak_jax import log, pipeline
    from ctrak_jax.cli import compilation_cache
    from ctrak_jax.progress import Overall, tracked
    from ctrak_jax.stages.retrain import counterfactual
    from ctrak_jax.terminal.counterfactual import counterfactual_table

    log.deadline.set(args.minutes)
    compilation_cache.switch_on(config.run.compilation_cache)
    contexts = pipeline.prepare(config, out)
    with tracked(out, "counterfactual", Overall(("counterfactual",))) as overall:
        overall.begin("counterfactual")
        found = counterfactual.run(out, contexts)
    if args.json:
        print(json.dumps(asdict(found), indent=1))
    else:
        print(counterfactual_table(found.rows))
