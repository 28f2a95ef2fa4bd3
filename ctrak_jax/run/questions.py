"""The questions of a run: (image, concept) pairs, listed in ``queries/queries.csv``."""

import hashlib
import json
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from ctrak_jax.errors import StoreError
from ctrak_jax.run.tables import damaged, read_csv, write_csv

Scope = Literal["local", "global"]
Scenario = Literal["id", "ood"]
Split = Literal["validation", "report"]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One row of queries.csv.

    Attributes:
        query: id of the image.
        condition: its values by attribute.
        attribute: the concept's attribute.
        minus: the condition without the concept (a missing attribute is null, or all its other
            values).
        scope: local or global.
        scenario: id or ood.
        split: validation or report.
        image: picture, relative to the queries folder.
        prompt: what a text-to-image network is prompted with.
        minus_prompt: the same without the concept.
        mask: picture of the part that is asked about, relative to the queries folder; empty for the
            whole image.
    """

    query: str
    condition: dict[str, str]
    attribute: str
    minus: dict[str, str]
    scope: Scope
    scenario: Scenario
    split: Split
    image: str
    prompt: str = ""
    minus_prompt: str = ""
    mask: str = ""

    @property
    def about(self) -> str:
        """The scope, or ``part``: tables of results keep parts of images apart."""
        return "part" if self.mask else self.scope

    @property
    def value(self) -> str:
        """The concept's value."""
        return self.condition[self.attribute]

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that tables of results say it by."""
        names = ("query", "about", "scenario", "attribute", "value")
        return {"scope" if name == "about" else name: getattr(self, name) for name in names}

    @property
    def key(self) -> tuple[str, str]:
        """What the rankings of the question are found by: (query, attribute)."""
        return self.query, self.attribute


@dataclass(frozen=True, kw_only=True)
class QuestionRow:
    """A question of one training seed, as tables of results say it (:attr:`Question.columns`)."""

    seed: int
    query: str
    scope: str
    scenario: str
    attribute: str
    value: str


HEADER = ("query", "condition", "concept", "minus", "scope", "scenario", "split", "image")
TEXTS = ("prompt", "minus_prompt")
"""Further columns of a text-to-image run."""
MASKED = ("mask",)
"""A further column where parts of images are asked about."""


def write_questions(path: Path, questions: Sequence[Question]) -> None:
    """Write queries.csv; condition, concept and minus are JSON objects."""
    header = (*HEADER, *TEXTS) if any(q.prompt for q in questions) else HEADER
    header += MASKED if any(q.mask for q in questions) else ()
    rows = []
    for q in questions:
        row = asdict(q) | {"condition": _json(q.condition), "minus": _json(q.minus)}
        row["concept"] = _json({q.attribute: q.value})
        rows.append([row[name] for name in header])
    write_csv(path, header, rows)


def read_questions(path: Path) -> list[Question]:
    """Read queries.csv.

    Raises:
        StoreError: missing or damaged.
    """
    try:
        return [_question(row) for row in read_csv(path, HEADER, "query")]
    except ValueError as error:
        raise damaged(path, error, "query") from None


def fingerprint(folder: Path) -> str:
    """SHA-256 of the table, the pictures and the masks of a folder of queries: what their features
    depend on.

    Raises:
        StoreError: the table or a picture is missing, or the table is damaged.
    """
    digest = hashlib.sha256()
    table = folder / "queries.csv"
    asked = read_questions(table)
    pictures = sorted({folder / file for q in asked for file in (q.image, q.mask) if file})
    for file in (table, *pictures):
        try:
            digest.update(file.read_bytes())
        except FileNotFoundError:
            raise StoreError(
                f"{file} is missing; delete {folder} and run `ctrak query` again."
            ) from None
    return digest.hexdigest()


def combination_names(combinations: Sequence[Mapping[str, str]]) -> list[str]:
    """``triangle-red`` for each one, fit for a file's name.

    Where characters had to give way, or two would have one name, a checksum of the values keeps
    them apart.
    """
    plain = ["-".join(values.values()) for values in combinations]
    safe = [re.sub(r"[^A-Za-z0-9._+-]", "_", name) for name in plain]
    uses = Counter(safe)
    return [
        name
        if name == wanted and uses[name] == 1
        else f"{name}-{zlib.crc32(_json(values).encode()):08x}"
        for name, wanted, values in zip(safe, plain, combinations, strict=True)
    ]


def _json(values: Mapping[str, str]) -> str:
    return json.dumps(dict(values), ensure_ascii=False)


def _values(text: str) -> dict[str, str]:
    values = json.loads(text)
    if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
        raise ValueError(f"{text!r} is no JSON object of texts")
    return values


def _question(row: Mapping[str, str]) -> Question:
    condition, (attribute,) = _values(row["condition"]), _values(row["concept"])
    if attribute not in condition:
        raise ValueError(f"the condition lacks {attribute!r}")
    parsed = {"condition": condition, "attribute": attribute, "minus": _values(row["minus"])}
    found: dict[str, Any] = {**dict.fromkeys((*TEXTS, *MASKED), ""), **row, **parsed}
    return Question(**{f.name: found[f.name] for f in fields(Question)})
