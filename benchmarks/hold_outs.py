"""Out of distribution without held-out combinations: validation questions, candidates taken away.

    python -m benchmarks.hold_outs RUN

RUN is a finished run whose data set has at least two attributes. For a validation question, which
is in distribution, about one attribute of an image, the candidates that carry the image's value of
both this and another attribute are left out of the ranking, as training would have left them out of
the model: what is asked for must be found where it never came with the other. Mean over all other
attributes, precision@10 at the damping of each method. It touches no reported question, so settings
may be compared by it.
"""

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from ctrak_jax import config, metrics, pipeline
from ctrak_jax.run.questions import Question
from ctrak_jax.stages.context import Context
from ctrak_jax.store import read_scores

DEPTH = 10


def precision(ctx: Context, question: Question, scores: np.ndarray) -> tuple[float, float]:
    """Precision@10 over all candidates, and without those that carry both values (mean over the
    other attributes)."""
    carries = ctx.dataset.carries(question.attribute, question.value)

    def top(scores: np.ndarray) -> float:
        return metrics.precision_at_k(np.argsort(-scores), carries, DEPTH)

    apart = [
        top(np.where(carries & ctx.dataset.carries(name, value), -np.inf, scores))
        for name, value in question.condition.items()
        if name != question.attribute
    ]
    return top(scores), float(np.mean(apart))


def main() -> None:
    """One line a method: both precisions, and the second one by attribute."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    settings = config.load(run / "config.yaml")
    contexts = pipeline.prepare(settings, run)
    table = Table("method", "validation", "held out", *settings.data.condition_on)
    for method in settings.methods:
        rows: dict[str, list[tuple[float, float]]] = {}
        for ctx in contexts:
            asked = ctx.questions()
            scores = read_scores(ctx.folder.scores(method))
            for question, row in zip(asked, scores, strict=True):
                if question.split == "validation":
                    rows.setdefault(question.attribute, []).append(precision(ctx, question, row))
        found = np.array([np.mean(rows[name], axis=0) for name in settings.data.condition_on])
        cells = [*found.mean(axis=0), *found[:, 1]]
        table.add_row(method, *(f"{cell:.2f}" for cell in cells))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
