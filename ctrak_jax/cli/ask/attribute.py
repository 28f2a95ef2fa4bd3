"""``ctrak attribute``: one question to an existing feature store."""

import argparse
import json
from pathlib import Path
from typing import Any

from ctrak_jax.cli import arguments
from ctrak_jax.cli.ask import explained, questions
from ctrak_jax.errors import UsageError


def declare(parser: argparse.ArgumentParser) -> None:
    """The run, and the question: by attributes, or by words of a prompt."""
    arguments.declare_config(parser)
    group = questions.declare(parser)
    group.add_argument("--scope", choices=("local", "global"), help="one image, or all [local]")
    group.add_argument("--picture", type=Path, metavar="FILE", help="also draw the answer there")
    parser.add_argument(
        "--explain",
        action="store_true",
        help="also write what `ctrak explain` does, below DIR/explanations",
    )
    arguments.declare_json(parser)


def act(args: argparse.Namespace) -> None:
    """Ask, and print the top training images."""
    questions.settle(args)
    _check(args)
    ctx = questions.context(args)
    from ctrak_jax.progress import Overall, tracked
    from ctrak_jax.terminal.answer import text

    if args.explain:
        from ctrak_jax.stages.ask.explain import require_explainable
        from ctrak_jax.store.files import require_writable

        require_explainable(ctx, args.method, args.scope or "local")
        require_writable(ctx.folder.root / "explanations")
    with tracked(None, "attribute", Overall(("attribute",))):
        answer = _ask(args, ctx) if args.prompt is None else _by_prompt(args, ctx)
        written = _explained(args, ctx, answer) if args.explain else []
    print(json.dumps(answer.found, indent=1) if args.json else text(answer.found))
    if not args.json:
        print(*(f"wrote {path}" for path in written), sep="\n", end="\n" if written else "")


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


def _ask(args: argparse.Namespace, ctx: Any) -> Any:
    from ctrak_jax.stages.ask import attribute

    return attribute.ask(
        ctx,
        image=args.image,
        mask=args.mask,
        condition=args.condition,
        concept=args.concept,
        method=args.method,
        top=args.top,
    )


def _explained(args: argparse.Namespace, ctx: Any, answer: Any) -> list[Path]:
    """Write what explains the answer, concept by concept, and name the pages in it."""
    from ctrak_jax.stages.ask.explain import explain

    answers = answer.found.get("concepts", [answer.found])
    explanations = explain(ctx, answer.denoiser, answer.asking, answer.how, answer.solved)
    about, written = explained.about(args, answer.how), []
    for one, found in zip(answers, explanations, strict=True):
        page = explained.page_of(args, ctx, found.concept)
        written += explained.write(ctx, page, found, answer.asking.image, about)
        one["page"] = str(page)
    return written


def _by_prompt(args: argparse.Namespace, ctx: Any) -> Any:
    from ctrak_jax.report import write_answer
    from ctrak_jax.stages.ask import attribute

    answer = attribute.ask_prompt(
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
        rows = {c["concept"]: [row["index"] for row in c["top"]] for c in answer.found["concepts"]}
        images = ctx.dataset.raw.images
        tops = {concept: [images[i] for i in found] for concept, found in rows.items()}
        write_answer(args.picture, answer.asking.image, args.prompt, tops)
    return answer
