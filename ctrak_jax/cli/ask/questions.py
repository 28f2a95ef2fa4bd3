"""The arguments of a question of one's own, by attributes or by words of a prompt."""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ctrak_jax.errors import UsageError


def declare(
    parser: argparse.ArgumentParser, top: int = 10, of_top: str = "how many training images"
) -> argparse._ArgumentGroup:
    """What is asked about, by which method, and which training seed's model is meant; gives the
    group of the arguments that go with ``--prompt``.

    Args:
        top: the default of ``--top``.
        of_top: its help.
    """
    parser.add_argument("--image", type=Path, help="the image asked about")
    parser.add_argument(
        "--mask",
        type=Path,
        metavar="FILE",
        help="a picture of the image's size: white where it is asked about, else black",
    )
    parser.add_argument("--condition", help="its condition, e.g. shape=triangle,color=red")
    parser.add_argument("--concept", help="the attribute asked about, e.g. color")
    group = parser.add_argument_group("text-to-image: in place of --condition and --concept")
    group.add_argument("--prompt", help='e.g. "Pikachu in the style of Pablo Picasso"')
    group.add_argument(
        "--concepts", nargs="+", metavar="WORDS", help='words of it: "Pikachu" "Pablo Picasso"'
    )
    group.add_argument(
        "--minus",
        nargs="+",
        default=(),
        metavar="PROMPT",
        help="the prompt without each concept [the words left out]",
    )
    group.add_argument(
        "--image-seed", type=int, help="where no --image is given, generate this one [0]"
    )
    parser.add_argument("--method", help="[concept-trak; reward with --reward]")
    parser.add_argument(
        "--reward",
        metavar="REWARD",
        help="ask with this one, such as python:FILE.py:function (query.reward); the image then "
        "needs no --condition",
    )
    parser.add_argument("--top", type=int, default=top, metavar="K", help=f"{of_top} [{top}]")
    parser.add_argument("--seed", type=int, help="training seed of the model [the first]")
    return group


def settle(args: argparse.Namespace) -> None:
    """Let ``--reward`` stand for the method and the setting of that name."""
    if args.reward is not None:
        if args.method not in (None, "reward"):
            raise UsageError(
                f"--reward asks with --method reward, got --method {args.method}; leave one out."
            )
        setattr(args, "query.reward", json.dumps(args.reward))
    args.method = args.method or ("reward" if args.reward is not None else "concept-trak")


def own_flags(args: argparse.Namespace) -> list[str]:
    """The arguments given that a question of the run has itself."""
    flags = ("--image", "--condition", "--prompt", "--concepts", "--minus", "--image-seed")
    return [f for f in flags if getattr(args, f[2:].replace("-", "_")) not in (None, ())]


def check(args: argparse.Namespace, *also: str) -> None:
    """A question of one's own; ``also`` are more arguments that go with ``--prompt``."""
    if args.prompt is None:
        check_attributes(args, *also)
    else:
        check_prompt(args)


def check_attributes(args: argparse.Namespace, *also: str) -> None:
    """A question by attributes, which has none of the arguments that go with ``--prompt``."""
    for flag in ("concepts", "minus", "image-seed", *also):
        if getattr(args, flag.replace("-", "_")) not in (None, ()):
            raise UsageError(f"--{flag} goes with --prompt; give one, or leave it out.")
    if args.method == "reward" and args.condition is None and args.image is not None:
        args.concept = args.concept or "reward"
    elif None in (args.image, args.condition, args.concept):
        raise UsageError(
            f"{args.command} needs --image, --condition and --concept, or --prompt and --concepts."
        )


def check_prompt(args: argparse.Namespace) -> None:
    """A question by a prompt."""
    if not args.concepts or args.condition is not None or args.concept is not None:
        raise UsageError("--prompt goes with --concepts, in place of --condition and --concept.")
    if args.image is not None and args.image_seed is not None:
        raise UsageError(
            "--image does not go with --image-seed, which asks about what the model makes; leave "
            "one of them out."
        )


def context(args: argparse.Namespace) -> Any:
    """The model that is asked: the run of the command line, of its training seed."""
    from ctrak_jax.cli import arguments

    config, out = arguments.load(args)
    seeds = list(config.run.seeds)
    seed = seeds[0] if args.seed is None else args.seed
    if seed not in seeds:
        raise UsageError(f"--seed {seed} is none of the run's seeds {seeds}.")
    from ctrak_jax import pipeline
    from ctrak_jax.cli import compilation_cache

    compilation_cache.switch_on(config.run.compilation_cache)
    return pipeline.prepare(config, out)[seeds.index(seed)]


@contextmanager
def timed(command: str) -> Iterator[None]:
    """Show how far a command is with its question, and log what it took, compilation apart."""
    from ctrak_jax import log
    from ctrak_jax.progress import Overall, tracked

    with tracked(None, command, Overall((command,))), log.timed(command):
        yield


def answered(args: argparse.Namespace, ctx: Any) -> Any:
    """The answer to a question of one's own."""
    from ctrak_jax.stages.ask import attribute

    if args.prompt is None:
        return attribute.ask(
            ctx,
            image=args.image,
            mask=args.mask,
            condition=args.condition,
            concept=args.concept,
            method=args.method,
            top=args.top,
        )
    return attribute.ask_prompt(
        ctx,
        prompt=args.prompt,
        concepts=args.concepts,
        minus=args.minus,
        image=args.image,
        image_seed=args.image_seed or 0,
        mask=args.mask,
        scope=getattr(args, "scope", None) or "local",
        method=args.method,
        top=args.top,
    )


def scored(args: argparse.Namespace) -> Any:
    """The same, of a run that has scores."""
    ctx = context(args)
    from ctrak_jax.run.variants import MAIN
    from ctrak_jax.stages import score

    score.require(ctx, MAIN)
    return ctx


def averaged(args: argparse.Namespace) -> Any:
    """The average of the models of all training seeds."""
    from ctrak_jax.cli import arguments

    config, out = arguments.load(args)
    if args.seed is not None:
        raise UsageError("--seed does not go with --ensemble; leave one of them out.")
    if not config.score.ensemble:
        raise UsageError(
            "--ensemble needs averages of several models; run `ctrak score` with "
            "score.ensemble: true and several run.seeds."
        )
    from ctrak_jax import pipeline
    from ctrak_jax.stages import ensemble

    contexts = pipeline.prepare(config, out)
    ensemble.require(out, contexts)
    return ensemble.context_of(out, contexts)
