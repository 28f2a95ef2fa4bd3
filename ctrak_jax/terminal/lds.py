"""The linear datamodeling scores of a run, as text and as Markdown."""

from collections.abc import Sequence

from ctrak_jax.report.labels import SCENARIO_SHORT
from ctrak_jax.report.rows import Column, lds_blocks
from ctrak_jax.run.retraining import NAMED, LdsDifference, LdsSummary, LdsTable
from ctrak_jax.terminal.table import text_table

MEASURED = {
    "loss": "loss of the question's image",
    "concept": "loss of the concept",
    "presence": "presence of the concept in generated images",
}
"""What each output is, in words."""
REFERENCES = (
    "trained-again: how well what one model gives orders the subsets by what another gives that "
    "was trained on the same subset, the reliability r of one training. best-possible: the square "
    "root of n r / (1 + (n - 1) r), n trainings per subset, which scores that predict the expected "
    "output exactly would reach."
)
"""The references of several trainings per subset, in words."""
ABSENT = "Presence is not measured: the run has no rule that says what an image shows."


def lds_table(table: LdsTable) -> str:
    """A text table per output."""
    blocks = []
    for output, shown, lines in lds_blocks(table.summary):
        body = [
            (_name(line.method, line.condition), *(_short(cell) for cell in line.cells))
            for line in lines
        ]
        title = f"LDS, {MEASURED[output]} ({table.models}; 95% interval over subsets)"
        blocks.append(text_table(title, ["method"], [*map(_head, shown)], body))
    if table.trainings > 1:
        blocks.append(REFERENCES)
    return "\n".join(blocks)


def lds_markdown(table: LdsTable) -> str:
    """lds.md: the tables with both intervals, and the differences from Concept-TRAK."""
    settings = table.settings["lds"]
    lines = [
        "# Linear datamodeling scores",
        "",
        f"Trained on the training set with a random subset of the candidates, a share of "
        f"{settings['share']:g} each time: {table.models}. LDS is Spearman's correlation over the "
        f"subsets of a subset's summed scores and of what {_whose(table)}, mean over questions. In "
        "brackets the 95% intervals over images and over subsets.",
    ]
    if table.trainings > 1:
        lines += ["", REFERENCES]
    outputs = set()
    for output, shown, methods in lds_blocks(table.summary):
        outputs.add(output)
        heads = ["method", *map(_head, shown)]
        body = [[_name(line.method, line.condition), *map(_long, line.cells)] for line in methods]
        lines += ["", f"## {output.capitalize()}: {MEASURED[output]}", "", *_markdown(heads, body)]
        found = [row for row in table.differences if row.output == output]
        if found:
            lines += ["", f"{found[0].method} minus another method:", ""]
            lines += _differences(found, shown)
    if "presence" not in outputs:
        lines += ["", ABSENT]
    return "\n".join([*lines, ""])


def _differences(found: Sequence[LdsDifference], shown: Sequence[Column]) -> list[str]:
    cells: dict[str, dict[Column, str]] = {}
    for row in found:
        text = f"{row.difference:+.2f} {_brackets(row.ci95_queries, row.ci95_subsets)}"
        rival = cells.setdefault(_name(row.rival, row.condition), {})
        rival[Column(row.scope, row.scenario)] = text
    body = [[name, *(of.get(column, "-") for column in shown)] for name, of in cells.items()]
    return _markdown(["minus", *map(_head, shown)], body)


def _whose(table: LdsTable) -> str:
    return "its model gives" if table.trainings == 1 else "its models give on average"


def _head(column: Column) -> str:
    return f"{column.scope} {SCENARIO_SHORT[column.scenario]}"


def _name(method: str, condition: str) -> str:
    return method if condition == NAMED else f"{method} ({condition})"


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _short(row: LdsSummary | None) -> str:
    return "-" if row is None else "{:.2f} [{:.2f}, {:.2f}]".format(*row.interval)


def _long(row: LdsSummary | None) -> str:
    return "-" if row is None else f"{row.lds:.2f} {_brackets(row.ci95_queries, row.ci95_subsets)}"


def _brackets(*intervals: tuple[float, float]) -> str:
    return " ".join("[{:.2f}, {:.2f}]".format(*pair) for pair in intervals)
