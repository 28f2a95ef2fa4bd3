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
    from ctrak_jax.terminal.answer import text

    if args.explain:
        from ctrak_jax.stages.ask.explain import require_explainable
        from ctrak_jax.store.files import require_writable

        require_explainable(ctx, args.method, args.scope or "local")
        require_writable(ctx.folder.root / "explanations")
    with questions.timed("attribute"):
        answer = questions.answered(args, ctx)
        if args.picture is not None:
            _draw(args, ctx, answer)
        written = _explained(args, ctx, answer) if args.explain else []
    print(json.dumps(answer.found, indent=1) if args.json else text(answer.found))
    if not args.json:
        print(*(f"wrote {path}" for path in written), sep="\n", end="\n" if written else "")


def _check(args: argparse.Namespace) -> None:
    questions.check(args, "scope", "picture")
    if args.image is not None and args.scope == "global":
        raise UsageError(
            "--image does not go with --scope global, which asks about what the model makes; "
            "leave one of them out."
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


def _draw(args: argparse.Namespace, ctx: Any, answer: Any) -> None:
    from ctrak_jax.report import write_answer

    rows = {c["concept"]: [row["index"] for row in c["top"]] for c in answer.found["concepts"]}
    images = ctx.dataset.raw.images
    tops = {concept: [images[i] for i in found] for concept, found in rows.items()}
    write_answer(args.picture, answer.asking.image, args.prompt, tops)
