"""Conditions of a class-conditional model: concatenated one-hots, zeros for a null attribute.

What is drawn for a sample is fixed by its dataset index: neither order nor batch can change it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle, product
from typing import Literal

import numpy as np

from ctrak_jax.errors import UsageError

Change = Literal["attribute", "opposite"]


@dataclass(frozen=True)
class Conditions:
    """The coding of attribute values; the vocabulary is in the order of the code."""

    vocabulary: Mapping[str, tuple[str, ...]]

    @property
    def size(self) -> int:
        """Length of a condition vector."""
        return sum(len(values) for values in self.vocabulary.values())

    @property
    def attributes(self) -> tuple[str, ...]:
        return tuple(self.vocabulary)

    @property
    def blocks(self) -> np.ndarray:
        """Which attribute each coordinate belongs to: int [condition]."""
        sizes = [len(values) for values in self.vocabulary.values()]
        return np.repeat(np.arange(len(sizes)), sizes)

    def encode(self, values: Mapping[str, str | None]) -> np.ndarray:
        """Values (missing or ``None`` = null) -> float32 [condition].

        Raises:
            UsageError: a value the vocabulary does not have.
        """
        parts = [np.zeros(0, np.float32)]
        for name, known in self.vocabulary.items():
            code = np.zeros(len(known), np.float32)
            value = values.get(name)
            if value is not None:
                if value not in known:
                    raise UsageError(f"{name}={value!r} is not known; {name} has {list(known)}.")
                code[known.index(value)] = 1.0
            parts.append(code)
        return np.concatenate(parts)

    def decode(self, code: np.ndarray) -> dict[str, str]:
        """What :meth:`encode` was given; a null attribute is missing."""
        values = [(name, value) for name, known in self.vocabulary.items() for value in known]
        return {name: value for (name, value), on in zip(values, code, strict=True) if on}

    def combinations(self) -> list[dict[str, str]]:
        """Every combination of values, in the order of the code."""
        names = list(self.vocabulary)
        return [dict(zip(names, c, strict=True)) for c in product(*self.vocabulary.values())]

    def named(self, conditions: np.ndarray) -> np.ndarray:
        """Which attributes are not null: bool [n, attribute]."""
        ends = np.cumsum([len(values) for values in self.vocabulary.values()])
        return np.stack([part.any(-1) for part in np.split(conditions, ends[:-1], -1)], axis=-1)

    def changed(
        self, what: Change, conditions: np.ndarray, index: np.ndarray, *, seed: int, count: int
    ) -> np.ndarray:
        """:meth:`with_one_changed` (attribute) or :meth:`with_all_changed` (opposite)."""
        change = {"attribute": self.with_one_changed, "opposite": self.with_all_changed}[what]
        return change(conditions, index, seed=seed, count=count)

    def with_one_changed(
        self, conditions: np.ndarray, index: np.ndarray, *, seed: int, count: int
    ) -> np.ndarray:
        """For every sample conditions that differ from its own in ONE attribute each.

        The attributes and their other values (the null where an attribute has one value only) are
        drawn; an attribute that is null stays so. What comes out, float32 [n, count, condition],
        need not occur among ``conditions``. A sample with fewer attributes than are wanted has them
        again in turn; one with none has its own condition.

        Args:
            conditions: [n, condition].
            index: dataset index of each row.
            count: how many attributes; all of them where there are fewer.
        """
        attributes = len(self.vocabulary)
        changed = np.repeat(conditions[:, None], min(count, attributes), axis=1)
        named = self.named(conditions)
        for row, i, has in zip(changed, index.tolist(), named, strict=True):
            rng = np.random.default_rng((seed, i))
            chosen = [attribute for attribute in rng.permutation(attributes) if has[attribute]]
            for condition, attribute in zip(row, cycle(chosen), strict=False):
                places = np.flatnonzero(self.blocks == attribute)
                others = places[condition[places] == 0]
                condition[places] = 0
                if len(others):
                    condition[rng.choice(others)] = 1
        return changed

    def with_all_changed(
        self, conditions: np.ndarray, index: np.ndarray, *, seed: int, count: int
    ) -> np.ndarray:
        """For every sample conditions that differ from its own in EVERY attribute.

        Drawn without replacement, uniformly over all of them, held-out ones too; an attribute of
        one value becomes null, one that is null stays so. Arguments and result as for
        :meth:`with_one_changed`.
        """
        places = [np.flatnonzero(self.blocks == a) for a in range(len(self.vocabulary))]
        choices = [max(len(places_of) - 1, 1) for places_of in places]
        count = min(count, math.prod(choices))
        changed = np.zeros((len(conditions), count, self.size), np.float32)
        for own, row, i in zip(conditions, changed, index.tolist(), strict=True):
            rng = np.random.default_rng((seed, i))
            drawn = rng.choice(math.prod(choices), count, replace=False)
            for picks, places_of in zip(np.unravel_index(drawn, choices), places, strict=True):
                others_of = places_of[own[places_of] == 0]
                if 0 < len(others_of) < len(places_of):
                    row[np.arange(count), others_of[picks]] = 1
        return changed


def negatives(
    conditions: np.ndarray, rows: np.ndarray, index: np.ndarray, *, seed: int, count: int
) -> np.ndarray:
    """For some training samples ``count`` rows [m, count] under other conditions than their own.

    Drawn without replacement and uniformly over the other conditions that occur, not over samples.

    Args:
        conditions: of all samples [n, condition].
        rows: of the samples in question [m].
        index: their dataset indices [m].
        count: how many; all the others where there are fewer.

    Raises:
        UsageError: all samples have one condition.
    """
    distinct, first, inverse = np.unique(conditions, axis=0, return_index=True, return_inverse=True)
    others = len(distinct) - 1
    if not others:
        raise UsageError(
            "all training samples have the same condition, so there is no other one to guide "
            "against; use trajectory.negative: null."
        )
    steps = [
        1 + np.random.default_rng((seed, i)).permutation(others)[:count] for i in index.tolist()
    ]
    return first[(inverse.reshape(-1, 1)[rows] + np.stack(steps)) % len(distinct)]


def other_indices(conditions: np.ndarray, index: np.ndarray, seed: int) -> np.ndarray:
    """A sample under another condition for every training sample: the first of ``negatives``."""
    return negatives(conditions, np.arange(len(index)), index, seed=seed, count=1)[:, 0]
