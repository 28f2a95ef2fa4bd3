"""``ctrak groups``: what the images of one artist, licence or source did together."""

import argparse
from pathlib import Path

from ctrak_jax.cli import arguments


def declare(parser: argparse.ArgumentParser) -> None:
    """The run, the column, and which of the run's questions are meant."""
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
    parser.add_argument("--concept", metavar="ATTRIBUTE", help="questions about it alone")
    parser.add_argument(
        "--scope", choices=("local", "global"), default="local", help="without --query [local]"
    )
    parser.add_argument("--method", default="concept-trak", help="[concept-trak]")
    parser.add_argument(
        "--top", type=int, default=100, metavar="K", help="share of the first K images [100]"
    )
    parser.add_argument("--seed", type=int, help="training seed of the model [the first]")
    parser.add_argument(
        "--ensemble", action="store_true", help="the average of all seeds (score.ensemble)"
    )
    arguments.declare_json(parser)


def act(args: argparse.Namespace) -> None:
    """Sum, and write the tables and the picture."""
    wanted: Path | None = args.out
    args.out = None  # of the run: the folder that is given, or what its config says
    from ctrak_jax.cli.ask import questions

    ctx = questions.averaged(args) if args.ensemble else questions.scored(args)
    from ctrak_jax.progress import Overall, tracked
    from ctrak_jax.report.contact import file_name
    from ctrak_jax.report.groups import write_groups
    from ctrak_jax.report.groups.picture import write_picture
    from ctrak_jax.stages.ask.groups import chosen_rows, influence_of_groups
    from ctrak_jax.terminal.groups import groups_table

    with tracked(None, "groups", Overall(("groups",))):
        rows = chosen_rows(ctx.questions(), args.query, args.concept, args.scope)
        table = influence_of_groups(ctx, args.by, rows, args.method, args.top)
    name = file_name(f"{args.by}-{args.method}")
    folder = wanted or ctx.folder.root / "groups" / name
    written = write_groups(folder, table)
    if args.json:
        print(written[0].read_text(), end="")
        return
    written.append(write_picture(folder / "groups.png", table, ctx.dataset.raw.images))
    print(groups_table(table), end="")
    print(*(f"wrote {path}" for path in written), sep="\n")
