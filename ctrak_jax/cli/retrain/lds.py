"""``ctrak lds``: retraining on random subsets of the candidates."""

import argparse
import json
from dataclasses import asdict

from ctrak_jax.cli import arguments
from ctrak_jax.errors import UsageError


def declare(parser: argparse.ArgumentParser) -> None:
    """A config, ``--minutes``, ``--part``, what joins several processes, and ``--json``."""
    arguments.declare_config(parser)
    arguments.declare_minutes(parser)
    parser.add_argument(
        "--part",
        metavar="I/N",
        default="1/1",
        help="do every N-th retraining from the I-th; the last command to end sums them up",
    )
    arguments.declare_processes(parser)
    arguments.declare_json(parser)


def part_of(text: str) -> tuple[int, int]:
    """``I/N`` as numbers.

    Raises:
        UsageError: it is no part.
    """
    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise UsageError(f"--part {text}: expected I/N with I from 1 to N, such as 1/4.")
    return int(number), int(of)


def act(args: argparse.Namespace) -> None:
    """Retrain, compare and print; the report is drawn again where there is one."""
    config, out = arguments.load(args)
    number, of = part_of(args.part)
    from ctrak_jax import hosts, log, pipeline
    from ctrak_jax.cli import compilation_cache
    from ctrak_jax.progress import Overall, tracked
    from ctrak_jax.stages import report
    from ctrak_jax.stages.retrain import lds
    from ctrak_jax.terminal.lds import lds_table

    log.deadline.set(args.minutes)
    arguments.join(args)
    compilation_cache.switch_on(config.run.compilation_cache)
    contexts = pipeline.prepare(config, out)
    command = "lds" if of == 1 else f"lds {number} of {of}"
    with tracked(out, command, Overall(("lds",)), hosts.this()) as overall:
        overall.begin("lds")
        found = lds.run(out, contexts, lds.CommandPart(number, of))
    if not hosts.is_first():
        return
    if found is not None and (out / "metrics.json").exists():
        report.run(out, contexts)
    if args.json:
        print(json.dumps({"missing": True} if found is None else asdict(found)))
    elif found is not None:
        print(lds_table(found))
