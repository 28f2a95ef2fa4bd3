"""What the sections of a config are made of."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Natural = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NullByName = BeforeValidator(lambda value: "null" if value is None else value)
"""YAML reads a bare null as nothing; here it is the name of a condition."""
OneOrSeveral = BeforeValidator(lambda given: given if isinstance(given, list | tuple) else [given])
"""One value may stand without its list."""
PERFORMANCE = Field(json_schema_extra={"performance": True})
"""Marks a setting that changes time and memory and, beyond rounding, no number: no result depends
on it."""


class Section(BaseModel):
    """A part of the config: frozen, unknown keys refused, numbers finite, defaults documented."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    def problems(self) -> Iterator[str]:
        """Rules between the fields: what is wrong, and what to do."""
        yield from ()

    @model_validator(mode="after")
    def _has_no_problems(self) -> "Section":
        for message in self.problems():
            raise ValueError(message)
        return self


def _filled(values: Sequence[Any]) -> Sequence[Any]:
    if not values:
        raise ValueError("is empty; give at least one")
    return values


def _distinct(values: Sequence[Any]) -> Sequence[Any]:
    if len(set(values)) < len(values):
        raise ValueError("must name each one once")
    return values


FILLED, DISTINCT = AfterValidator(_filled), AfterValidator(_distinct)
