"""``ctrak explain``: where the scores of a question's first training images come from."""

import argparse
import json
from pathlib import Path
from typing import Any

from ctrak_jax.cli import arguments
from ctrak_jax.cli.ask import explained, questions
from ctrak_jax.errors import UsageError


def declare(parser: argparse.ArgumentParser) -> None:
    """The run, and the question: one of the run's, or one's own."""
    parser.add_argument(
        "--out", type=Path, metavar="PAGE", help="the page [DIR/explanations/QUESTION.html]"
    )
    arguments.declare_settings(parser)
    parser.add_argument(
        "--query", metavar="ID", help="a question of the run, with --concept: ids in queries.csv"
    )
    questions.declare(parser)
    arguments.declare_json(parser)


def act(args: argparse.Namespace) -> None:
    """Ask, take the scores apart, and write a page, a sheet of pictures and the arrays."""
    wanted: Path | None = args.out
    args.out = None  # of the run: the folder that is given, or what its config says
    if wanted is not None and wanted.suffix != ".html":
        raise UsageError(f"--out {wanted}: expected a file that ends in .html.")
    questions.settle(args)
    _check(args)
    ctx = questions.context(args)
    concept = args.concepts[0] if args.prompt is not None else args.concept
    page = wanted or explained.page_of(args, ctx, concept)
    from ctrak_jax.report.explanation import numbers
    from ctrak_jax.stages.ask.explain import explain, require_explainable
    from ctrak_jax.store.files import require_writable

    require_explainable(ctx, args.method, "local")
    require_writable(page.absolute().parent)
    with questions.timed("explain"):
        answer = questions.answered(args, ctx) if args.query is None else _again(args, ctx)
        asking, how = answer.asking, answer.how
        (found,) = explain(ctx, answer.denoiser, asking, how, answer.solved)
        about = explained.about(args, how)
        written = explained.write(ctx, page, found, asking.image, about)
    if args.json:
        print(json.dumps({"about": about, "damping": how.damping, **numbers(found)}, indent=1))
        return
    print(about)
    print(f"{'rank':>4} {'index':>8} {'score':>12} {'sum':>12}  image")
    words = explained.said(ctx, found)
    rows = zip(found.index, found.score, found.sums["training image"], words, strict=True)
    for rank, (index, score, total, said) in enumerate(rows, 1):
        print(f"{rank:4d} {index:8d} {score:12.5g} {total:12.5g}  {said}")
    print(*(f"wrote {path}" for path in written), sep="\n")


def _check(args: argparse.Namespace) -> None:
    if args.query is not None:
        for flag in questions.own_flags(args):
            raise UsageError(f"{flag} does not go with --query; leave one of them out.")
        return
    if (args.image, args.condition, args.concept, args.prompt) == (None,) * 4:
        raise UsageError(
            "explain needs a question: --query and --concept for one of the run's, or --image, "
            "--condition and --concept, or --prompt and --concepts."
        )
    questions.check(args)
    if args.prompt is not None and len(args.concepts) > 1:
        raise UsageError(f"explain takes one concept, got --concepts {args.concepts}.")


def _again(args: argparse.Namespace, ctx: Any) -> Any:
    """A question of the run, as it is asked again; ranked where it is explained."""
    from ctrak_jax.stages.ask import question
    from ctrak_jax.stages.ask.attribute import AttributedAnswer
    from ctrak_jax.stages.ask.explain import by_query

    asking = by_query(ctx, args.query, args.concept)
    (attribute,) = asking.concepts
    how = question.answering(ctx, args.method, args.top, attribute)
    if args.mask is not None:
        asking = question.masked(asking, args.mask, how)
    return AttributedAnswer({}, question.judged(ctx, asking, how), how, ctx.load(), None)
