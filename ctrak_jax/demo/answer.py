"""What the demo's run answers, read from its results."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ctrak_jax.errors import StoreError
from ctrak_jax.report.contact import file_name
from ctrak_jax.report.labels import label, ordered
from ctrak_jax.run.questions import Question
from ctrak_jax.run.reader import Run, open_run

ATTRIBUTE = "color"
FIRST = 10
"""Images of a ranking that are looked at, as many as the picture shows."""


class Answer(NamedTuple):
    """The first held-out query, and how many of each ranking's first images carry the concept.

    Attributes:
        out: the run.
        query: the question.
        value: the concept.
        carriers: by method, in the picture's order.
        base_rate: share of the candidates that carry the concept.
        picture: the rankings beside each other.
    """

    out: Path
    query: Question
    value: str
    carriers: Mapping[str, int]
    base_rate: float
    picture: Path

    @property
    def report(self) -> Path:
        return self.out / "report" / "index.html"

    @property
    def line(self) -> str:
        """The answer in one line."""
        names = {name: label(name).short.replace(", ", " of ") for name in self.carriers}
        counts = ", ".join(f"{names[name]} {count}" for name, count in self.carriers.items())
        chance = FIRST * self.base_rate
        return f"Of the first {FIRST}, {self.value} are: {counts}; by chance {chance:.1f}."

    @property
    def text(self) -> str:
        """The question, the answer, where to look, and what to do next."""
        values = self.query.condition
        condition = ",".join(f"{name}={value}" for name, value in values.items())
        asked = f"{self.value} {values['shape']}"
        image = shlex.quote(str(self.out / "queries" / self.query.image))
        run = shlex.quote(str(self.out))
        return (
            f"Which training images taught the “{self.value}” in a {asked} that the model drew?\n"
            f"The training set has no {asked}, and here no condition names the colour.\n"
            f"{self.line}\n"
            f"Picture: {self.picture}\n"
            f"Report: {self.report}\n"
            f"Another question: ctrak attribute {run} --image {image} --condition {condition} "
            "--concept shape\n"
            "Your own images: ctrak init FOLDER\n"
        )

    @property
    def as_json(self) -> dict[str, Any]:
        return {
            "query": self.query.query,
            "condition": self.query.condition,
            "concept": {ATTRIBUTE: self.value},
            "first": FIRST,
            "carriers": dict(self.carriers),
            "base_rate": self.base_rate,
            "picture": str(self.picture),
            "report": str(self.report),
        }


def read(out: Path) -> Answer:
    """The answer of a finished run.

    Raises:
        StoreError: it has no held-out query.
    """
    run = open_run(out)
    asked = [q for q in run.questions if q.scenario == "ood" and q.attribute == ATTRIBUTE]
    if not asked:
        raise StoreError(f"{out}: no held-out picture was accepted; delete it and run it again.")
    question = asked[0]
    hits, values = _hits(run, question), run.dataset.raw.attributes[ATTRIBUTE]
    everyone = run.features("trak").index
    name = file_name(f"{question.query}-{ATTRIBUTE}-unnamed")
    return Answer(
        out=out,
        query=question,
        value=question.value,
        carriers={
            method: sum(values[index] == question.value for index in found)
            for method, found in hits.items()
        },
        base_rate=sum(values[i] == question.value for i in everyone) / len(everyone),
        picture=out / "report" / "contact" / f"{name}.png",
    )


def _hits(run: Run, question: Question) -> dict[str, list[int]]:
    """Every method's first images, where no candidate's condition names the attribute."""
    found = {}
    for method in ordered(run.config.compared):
        ranking = run.tops(method, without=ATTRIBUTE)[question.key]
        found[method] = [hit.index for hit in ranking[:FIRST]]
    return found
