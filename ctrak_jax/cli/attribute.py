"""``ctrak attribute``: one question to an existing feature store."""

import argparse
import json
from pathlib import Path
from typing import Any

from ctrak_jax.cli import arguments
from ctrak_jax.errors import UsageError


def declare(parser: argparse.ArgumentParser) -> None:
    """The run, and the question: by attributes, or by words of a prompt."""
    arguments.declare_config(parser)
    parser.add_argument("--image", type=Path, help="the image asked about")
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
    group.add_argument("--scope", choices=("local", "global"), help="one image, or all [local]")
    group.add_argument(
        "--image-seed", type=int, help="where no --image is given, generate this one [0]"
    )
    group.add_argument("--picture", type=Path, metavar="FILE", help="also draw the answer there")
    parser.add_argument("--method", default="concept-trak", help="[concept-trak]")
    parser.add_argument("--top", type=int, default=10, help="how many training images [10]")
    parser.add_argument("--seed", type=int, help="training seed of the model [the first]")
    arguments.declare_json(parser)


def act(args: argparse.Namespace) -> None:
    """Ask, and print the top training images."""
    config, out = arguments.load(args)
    (_check_attributes if args.prompt is None else _check_prompt)(args)
    seeds = list(config.run.seeds)
    seed = seeds[0] if args.seed is None else args.seed
    if seed not in seeds:
        raise UsageError(f"--seed {seed} is none of the run's seeds {seeds}.")
    from ctrak_jax import pipeline
    from ctrak_jax.cli import compilation_cache
    from ctrak_jax.progress import Overall, tracked
    from ctrak_jax.stages import attribute
    from ctrak_jax.terminal.answer import text

    compilation_cache.switch_on(config.run.compilation_cache)
    ctx = pipeline.prepare(config, out)[seeds.index(seed)]
    with tracked(None, "attribute", Overall(("attribute",))):
        if args.prompt is not None:
            answer = _by_prompt(args, ctx)
        else:
            answer = attribute.ask(
                ctx,
                image=args.image,
                condition=args.condition,
                concept=args.concept,
                method=args.method,
                top=args.top,
            )
    print(json.dumps(answer, indent=1) if args.json else text(answer))


def _check_attributes(args: argparse.Namespace) -> None:
    for flag in ("concepts", "minus", "scope", "image-seed", "picture"):
        if getattr(args, flag.replace("-", "_")) not in (None, ()):
            raise UsageError(f"--{flag} goes with --prompt; give one, or leave it out.")
    if None in (args.image, args.condition, args.concept):
        raise UsageError(
            "attribute needs --image, --condition and --concept, or --prompt and --concepts."
        )


def _check_prompt(args: argparse.Namespace) -> None:
    if not args.concepts or args.condition is not None or args.concept is not None:
        raise UsageError("--prompt goes with --concepts, in place of --condition and --concept.")
    if args.image is not None and (args.image_seed is not None or args.scope == "global"):
        raise UsageError(
            "--image goes with neither --image-seed nor --scope global, which ask about what the "
            "model makes; leave it or them out."
        )


def _by_prompt(args: argparse.Namespace, ctx: Any) -> dict[str, Any]:
    from ctrak_jax.report import write_answer
    from ctrak_jax.stages import attribute

    answer, picture = attribute.ask_prompt(
        ctx,
        prompt=args.prompt,
        concepts=args.concepts,
        minus=args.minus,
        image=args.image,
        image_seed=args.image_seed or 0,
        scope=args.scope or "local",
        method=args.method,
        top=args.top,
    )
    if args.picture is not None:
        rows = {c["concept"]: [row["index"] for row in c["top"]] for c in answer["concepts"]}
        images = ctx.dataset.raw.images
        tops = {concept: [images[i] for i in found] for concept, found in rows.items()}
        write_answer(args.picture, picture, args.prompt, tops)
    return answer
