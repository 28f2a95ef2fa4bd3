"""The questions of a run: (image, concept) pairs and the table that lists them."""

import csv
import io
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import numpy as np

from ctrak_jax.errors import StoreError
from ctrak_jax.stages.context import Context, write_atomically

Scope = Literal["local", "global"]
Split = Literal["validation", "report"]


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
    scope: Scope
    scenario: Literal["id", "ood"]
    split: Split
    image: str

    @property
    def value(self) -> str:
        """The concept's value."""
        return self.condition[self.attribute]


HEADER = ("query", "condition", "concept", "minus", "scope", "scenario", "split", "image")


def combination_name(values: Mapping[str, str]) -> str:
    """``triangle-red``, fit for a file's name.

    Where characters had to give way, a checksum of the values keeps two combinations apart.
    """
    plain = "-".join(values.values())
    safe = re.sub(r"[^A-Za-z0-9._+-]", "_", plain)
    return safe if safe == plain else f"{safe}-{zlib.crc32(join(values).encode()):08x}"


QUOTED = str.maketrans({sign: f"%{ord(sign):02X}" for sign in "%;=\r\n"})
"""What would read as a separator, in percent-encoding."""


def join(values: Mapping[str, str]) -> str:
    """``shape=triangle;color=red``, on one line, with ``%``, ``;`` and ``=`` percent-encoded."""
    return ";".join(
        f"{name.translate(QUOTED)}={value.translate(QUOTED)}" for name, value in values.items()
    )


def split(text: str) -> dict[str, str]:
    """The values back from :func:`join`.

    Raises:
        ValueError: an item is not ``name=value``.
    """
    pairs = [item.split("=", 1) for item in text.split(";") if item]
    return {unquote(name): unquote(value) for name, value in pairs}


def minus_of(ctx: Context, values: Mapping[str, str], attribute: str) -> dict[str, str]:
    """The condition without the concept: another value of its attribute (fixed by the
    combination, uniform over the others), or the null value (config ``query.minus``)."""
    minus = dict(values)
    del minus[attribute]
    others = [v for v in ctx.conditions.vocabulary[attribute] if v != values[attribute]]
    if ctx.config.query.minus == "other" and others:
        seed = zlib.crc32(f"{'-'.join(values.values())}/{attribute}".encode())
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
        row["concept"] = join({q.attribute: q.value})
        writer.writerow([row[name] for name in HEADER])
    write_atomically(path, text.getvalue())


def read(path: Path) -> list[Question]:
    """Read queries.csv.

    Raises:
        StoreError: missing or damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            text = file.read()
        if not text.endswith("\n"):
            raise ValueError("its last line is cut off")
        rows = csv.DictReader(io.StringIO(text, newline=""))
        return [_question(row) for row in rows]
    except FileNotFoundError:
        raise StoreError(f"{path} is missing; run `ctrak query` first.") from None
    except (KeyError, ValueError, csv.Error) as error:
        raise StoreError(
            f"{path} is damaged ({error!r}); delete it and run `ctrak query`."
        ) from None


def _question(row: dict[str, Any]) -> Question:
    if None in row or None in row.values():
        raise ValueError(f"a row of other than {len(HEADER)} values")
    condition, (attribute,) = split(row["condition"]), split(row["concept"])
    if attribute not in condition:
        raise ValueError(f"the condition lacks {attribute!r}")
    parsed = {"condition": condition, "attribute": attribute, "minus": split(row["minus"])}
    return Question(**{f.name: (row | parsed)[f.name] for f in fields(Question)})
