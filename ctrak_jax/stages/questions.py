"""The questions of a run: (image, concept) pairs and the table that lists them."""

import csv
import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np

from ctrak_jax.errors import StoreError
from ctrak_jax.stages.context import Context, write_atomically


@dataclass(frozen=True, kw_only=True)
class Question:
    """One row of queries.csv.

    Attributes:
        query: id of the image. condition: its values. attribute: the concept's attribute.
        minus: the condition without the concept (a missing attribute is null).
        scope: local or global. scenario: id or ood. split: validation or report.
        image: picture, relative to the queries folder.
    """

    query: str
    condition: dict[str, str]
    attribute: str
    minus: dict[str, str]
    scope: Literal["local", "global"]
    scenario: Literal["id", "ood"]
    split: Literal["validation", "report"]
    image: str

    @property
    def value(self) -> str:
        """The concept's value."""
        return self.condition[self.attribute]


HEADER = ("query", "condition", "concept", "minus", "scope", "scenario", "split", "image")


def combination_name(values: Mapping[str, str]) -> str:
    """``triangle-red``."""
    return "-".join(values.values())


def join(values: Mapping[str, str]) -> str:
    """``shape=triangle;color=red``."""
    return ";".join(f"{name}={value}" for name, value in values.items())


def split(text: str) -> dict[str, str]:
    """The values back from :func:`join`."""
    return dict(item.split("=", 1) for item in text.split(";") if item)


def minus_of(ctx: Context, values: Mapping[str, str], attribute: str) -> dict[str, str]:
    """The condition without the concept: another value of its attribute (fixed by the
    combination, uniform over the others), or the null value (config ``query.minus``)."""
    minus = dict(values)
    del minus[attribute]
    others = [v for v in ctx.conditions.vocabulary[attribute] if v != values[attribute]]
    if ctx.config.query.minus == "other" and others:
        seed = zlib.crc32(f"{combination_name(values)}/{attribute}".encode())
        pick = others[int(np.random.default_rng(seed).integers(len(others)))]
        return {name: minus.get(name, pick) for name in values}
    return minus


def write(path: Path, questions: Sequence[Question]) -> None:
    """Write queries.csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for q in questions:
        row = asdict(q) | {"condition": join(q.condition), "minus": join(q.minus)}
        row["concept"] = f"{q.attribute}={q.value}"
        writer.writerow([row[name] for name in HEADER])
    write_atomically(path, text.getvalue())


def read(path: Path) -> list[Question]:
    """Read queries.csv.

    Raises:
        StoreError: missing or damaged.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        questions = []
        for row in rows:
            row["attribute"] = row.pop("concept").split("=", 1)[0]
            row["condition"], row["minus"] = split(row["condition"]), split(row["minus"])
            questions.append(Question(**{f.name: row[f.name] for f in fields(Question)}))
        return questions
    except FileNotFoundError:
        raise StoreError(f"{path} is missing; run `ctrak query` first.") from None
    except (KeyError, ValueError, AttributeError) as error:
        raise StoreError(
            f"{path} is damaged ({error!r}); delete it and run `ctrak query`."
        ) from None
