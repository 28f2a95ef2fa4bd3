"""The questions of a run: (image, concept) pairs and the table that lists them."""

import csv
import hashlib
import io
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ctrak_jax.errors import StoreError
from ctrak_jax.pairs import join, split
from ctrak_jax.stages.context import Context
from ctrak_jax.store.files import write_atomically

Scope = Literal["local", "global"]
Split = Literal["validation", "report"]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One row of queries.csv.

    Attributes:
        query: id of the image. condition: its values. attribute: the concept's attribute.
        minus: the condition without the concept (a missing attribute is null, or all its other
            values).
        scope: local or global. scenario: id or ood. split: validation or report.
        image: picture, relative to the queries folder.
        prompt, minus_prompt: what a text-to-image network is told, with the concept and without.
    """

    query: str
    condition: dict[str, str]
    attribute: str
    minus: dict[str, str]
    scope: Scope
    scenario: Literal["id", "ood"]
    split: Split
    image: str
    prompt: str = ""
    minus_prompt: str = ""

    @property
    def value(self) -> str:
        """The concept's value."""
        return self.condition[self.attribute]


HEADER = ("query", "condition", "concept", "minus", "scope", "scenario", "split", "image")
TEXTS = ("prompt", "minus_prompt")
"""Further columns of a text-to-image run."""


def combination_names(combinations: Sequence[Mapping[str, str]]) -> list[str]:
    """``triangle-red`` for each one, fit for a file's name.

    Where characters had to give way, or two would have one name, a checksum of the values keeps
    them apart.
    """
    plain = ["-".join(values.values()) for values in combinations]
    safe = [re.sub(r"[^A-Za-z0-9._+-]", "_", name) for name in plain]
    uses = Counter(safe)
    return [
        name if name == wanted and uses[name] == 1 else f"{name}-{zlib.crc32(join(v).encode()):08x}"
        for name, wanted, v in zip(safe, plain, combinations, strict=True)
    ]


class Told(NamedTuple):
    """A condition as values, and what a text-to-image network is told of them."""

    values: dict[str, str]
    prompt: str


def minus_of(ctx: Context, values: Mapping[str, str], attribute: str) -> list[Told]:
    """The conditions without the concept (config ``query.minus``): all other values of its
    attribute, one of them (fixed by the combination, uniform), or the null value."""
    others = [v for v in ctx.conditions.vocabulary[attribute] if v != values[attribute]]
    if ctx.config.query.minus == "null" or not others:
        rest = {name: value for name, value in values.items() if name != attribute}
        return [Told(rest, ctx.inputs.prompt_without(values, attribute))]
    if ctx.config.query.minus == "other":
        seed = zlib.crc32(f"{'-'.join(values.values())}/{attribute}".encode())
        others = [others[int(np.random.default_rng(seed).integers(len(others)))]]
    changed = [{**values, attribute: other} for other in others]
    return [Told(found, ctx.inputs.prompt(found)) for found in changed]


def in_common(told: Sequence[Told], attribute: str) -> dict[str, str]:
    """The one condition without the concept, or what several have in common: all but its value."""
    if len(told) == 1:
        return told[0].values
    return {name: value for name, value in told[0].values.items() if name != attribute}


def write(path: Path, questions: Sequence[Question]) -> None:
    """Write queries.csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = (*HEADER, *TEXTS) if any(q.prompt for q in questions) else HEADER
    writer.writerow(header)
    for q in questions:
        row = asdict(q) | {"condition": join(q.condition), "minus": join(q.minus)}
        row["concept"] = join({q.attribute: q.value})
        writer.writerow([row[name] for name in header])
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


def fingerprint(folder: Path) -> str:
    """SHA-256 of the table and the pictures of a folder of queries: what their features depend on.

    Raises:
        StoreError: the table or a picture is missing, or the table is damaged.
    """
    digest = hashlib.sha256()
    table = folder / "queries.csv"
    pictures = sorted({folder / q.image for q in read(table)})
    for file in (table, *pictures):
        try:
            digest.update(file.read_bytes())
        except FileNotFoundError:
            raise StoreError(
                f"{file} is missing; delete {folder} and run `ctrak query` again."
            ) from None
    return digest.hexdigest()


def _question(row: dict[str, Any]) -> Question:
    if None in row or None in row.values():
        raise ValueError("a row of more or fewer values than the header")
    condition, (attribute,) = split(row["condition"]), split(row["concept"])
    if attribute not in condition:
        raise ValueError(f"the condition lacks {attribute!r}")
    parsed = {"condition": condition, "attribute": attribute, "minus": split(row["minus"])}
    found: dict[str, Any] = {**dict.fromkeys(TEXTS, ""), **row, **parsed}
    return Question(**{f.name: found[f.name] for f in fields(Question)})
