"""``ctrak attribute``: one question to an existing feature store."""

import argparse
import json
from pathlib import Path
from typing import Any

from ctrak_jax.cli import arguments
from ctrak_jax.cli.ask import questions
from ctrak_jax.errors import UsageError


def declare(parser: argparse.ArgumentParser) -> None:
    """The run, and the question: by attributes, or by words of a prompt."""
    arguments.declare_config(parser)
    group = questions.declare(parser)
    group.add_argument("--scope", choices=("local", "global"), help="one image, or all [local]")
    group.add_argument("--picture", type=Path, metavar="FILE", help="also draw the answer there")
    arguments.declare_json(parser)


def act(args: argparse.Namespace) -> None:
    """Ask, and print the top training images."""
    _check(args)
    ctx = questions.context(args)
    from ctrak_jax.progress import Overall, tracked
    from ctrak_jax.stages.ask import attribute
    from ctrak_jax.terminal.answer import text

    with tracked(None, "attribute", Overall(("attribute",))):
        if args.prompt is not None:
            answer = _by_prompt(args, ctx)
        else:
            answer = attribute.ask(
                ctx,
                image=args.image,
                mask=args.mask,
                condition=args.condition,
                concept=args.concept,
                method=args.method,
                top=args.top,
            )
    print(json.dumps(answer, indent=1) if args.json else text(answer))


def _check(args: argparse.Namespace) -> None:
    if args.prompt is None:
        questions.check_attributes(args, "scope", "picture")
        return
    questions.check_prompt(args)
    if args.image is not None and args.scope == "global":
        raise UsageError(
            "--image does not go with --scope global, which asks about what the model makes; "
            "leave one of them out."
        )


def _by_prompt(args: argparse.Namespace, ctx: Any) -> dict[str, Any]:
    from ctrak_jax.report import write_answer
    from ctrak_jax.stages.ask import attribute

    answer, picture = attribute.ask_prompt(
        ctx,
        prompt=args.prompt,
        concepts=args.concepts,
        minus=args.minus,
        image=args.image,
        image_seed=args.image_seed or 0,
        mask=args.mask,
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
