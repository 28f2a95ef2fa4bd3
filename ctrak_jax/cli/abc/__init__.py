"""``ctrak abc``: the AbC benchmark."""

import argparse

from ctrak_jax.cli import arguments


def declare(parser: argparse.ArgumentParser) -> None:
    """The arguments of a stage."""
    arguments.declare_config(parser)
    arguments.declare_minutes(parser)
    arguments.declare_processes(parser)
    arguments.declare_json(parser)
    parser.add_argument(
        "--allow-missing-token",
        action="store_true",
        help="continue where the folder of a customised model has no file of its token",
    )


def act(args: argparse.Namespace) -> None:
    """Run the benchmark and print its table."""
    config, out = arguments.load(args)
    from ctrak_jax import abc, hosts, log
    from ctrak_jax.cli import compilation_cache

    log.deadline.set(args.minutes)
    arguments.join(args)
    compilation_cache.switch_on(config.run.compilation_cache)
    abc.run(config, out, allow_missing_token=args.allow_missing_token)
    if hosts.is_first():
        print((out / ("abc.json" if args.json else "abc.md")).read_text(), end="")
        if config.compared_controls and not args.json:
            print((out / "controls.md").read_text(), end="")
