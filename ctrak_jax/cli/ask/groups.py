"""``ctrak groups``: what the images of one artist, licence or source did together."""

import argparse
from pathlib import Path
from typing import Any

from ctrak_jax.cli import arguments
from ctrak_jax.cli.ask import explained, questions
from ctrak_jax.errors import UsageError


def declare(parser: argparse.ArgumentParser) -> None:
    """The run, the column, and which of the run's questions are meant, or one of one's own."""
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="of the tables [DIR/groups/COLUMN-METHOD]"
    )
    arguments.declare_settings(parser)
    parser.add_argument(
        "--by", required=True, metavar="COLUMN", help="column of the data set, e.g. artist"
    )
    parser.add_argument(
        "--query", nargs="+", default=(), metavar="ID", help="images of queries.csv [all]"
    )
    parser.add_argument(
        "--scope",
        choices=("local", "global"),
        help="of the run's questions, without --query, or of a prompt [local]",
    )
    parser.add_argument(
        "--ensemble", action="store_true", help="the average of all seeds (score.ensemble)"
    )
    questions.declare(parser, 100, "share of the first K images")
    arguments.declare_json(parser)


def act(args: argparse.Namespace) -> None:
    """Sum, and write the tables and the picture."""
    wanted: Path | None = args.out
    args.out = None  # of the run: the folder that is given, or what its config says
    questions.settle(args)
    own = questions.own_flags(args)
    if own:
        _check(args, own[0])
        ctx = questions.context(args)
    else:
        ctx = questions.averaged(args) if args.ensemble else questions.scored(args)
    from ctrak_jax.report.contact import file_name
    from ctrak_jax.report.groups import write_groups
    from ctrak_jax.report.groups.picture import write_picture
    from ctrak_jax.terminal.groups import groups_table

    with questions.timed("groups"):
        table = _of_own(args, ctx) if own else _of_run(args, ctx)
    concepts = args.concepts or [args.concept]
    asked = explained.name_of(args, ctx, concepts) if own else args.method
    folder = wanted or ctx.folder.root / "groups" / file_name(f"{args.by}-{asked}")
    written = write_groups(folder, table)
    if args.json:
        print(written[0].read_text(), end="")
        return
    written.append(write_picture(folder / "groups.png", table, ctx.dataset.raw.images))
    print(groups_table(table), end="")
    print(*(f"wrote {path}" for path in written), sep="\n")


def _check(args: argparse.Namespace, flag: str) -> None:
    if args.query:
        raise UsageError(f"{flag} does not go with --query; leave one of them out.")
    if args.ensemble:
        raise UsageError(
            f"{flag} does not go with --ensemble, which averages scores of the run's questions; "
            "ask one model, by --seed."
        )
    questions.check(args, "scope")


def _of_run(args: argparse.Namespace, ctx: Any) -> Any:
    from ctrak_jax.stages.ask.groups import chosen_rows, influence_of_groups

    if args.mask is not None:
        raise UsageError("--mask needs --image, or --prompt; the run's questions have their own.")
    rows = chosen_rows(ctx.questions(), args.query, args.concept, args.scope or "local")
    return influence_of_groups(ctx, args.by, rows, args.method, args.top)


def _of_own(args: argparse.Namespace, ctx: Any) -> Any:
    from ctrak_jax.stages.ask.groups import influence_on_own

    ctx.dataset.grouped(args.by)  # refuses a column before there is an answer
    about = args.prompt or args.image.name
    return influence_on_own(ctx, args.by, about, questions.answered(args, ctx))
