"""The config for a folder, with its reasons."""

import math
import re
from collections import Counter
from typing import NamedTuple

from ctrak_jax.config import Config
from ctrak_jax.errors import UsageError
from ctrak_jax.start import costs
from ctrak_jax.start.columns import FREQUENT, MOST_VALUES, Selected, named_in_captions, select
from ctrak_jax.start.look import Facts
from ctrak_jax.start.notes import COMPILING, notes
from ctrak_jax.start.pictures import frame_of
from ctrak_jax.start.rules import RULES
from ctrak_jax.start.situation import Choice, Kind, Machine, Situation, config_of, spent

FEWEST_PICTURES = 20
"""Twice the depth of precision@10."""


class Proposal(NamedTuple):
    """A config with its reasons.

    Attributes:
        notes: what to know beside the settings, a paragraph each.
        minutes: of its parts, on the machine.
    """

    facts: Facts
    selection: Selected
    machine: Machine
    choices: tuple[Choice, ...]
    notes: tuple[str, ...]
    minutes: costs.Minutes

    @property
    def config(self) -> Config:
        return config_of(self.choices)

    @property
    def estimate(self) -> str:
        """How long a run takes."""
        parts = zip(("training", "featurizing", "questions"), self.minutes, strict=True)
        said = ", ".join(f"{name} about {max(round(m), 1)} min" for name, m in parts if m)
        machine = f"{self.machine.name}, {self.machine.gflops:.0f} GFLOP/s just now"
        return (
            f"On this machine ({machine}): {said}; with compiling about "
            f"{math.ceil(self.minutes.total) + COMPILING} min."
        )

    def commands(self, file: str) -> list[str]:
        """What to type."""
        run = [f"ctrak run {file}"]
        if self.config.data.condition_on:
            return run
        prompt, word = example_of(self.facts.captions)
        return [*run, f'ctrak attribute {file} --prompt "{prompt}" --concepts "{word}"']


def propose(facts: Facts, machine: Machine, kind: Kind | None = None) -> Proposal:
    """The config for a folder.

    Args:
        kind: of the model; by default class-conditional where an attribute suits.

    Raises:
        UsageError: see :func:`require_possible`.
    """
    selection = select(facts.columns)
    kind = require_possible(facts, kind)
    if kind == "text-to-image":
        selection = named_in_captions(selection, facts.captions)
    at = Situation(facts, kind, selection, frame_of(facts, kind), machine, ())
    for rule in RULES:
        at = at._replace(choices=(*at.choices, *rule(at)))
    return Proposal(facts, selection, machine, at.choices, tuple(notes(at)), spent(at))


def require_possible(facts: Facts, wanted: Kind | None = None) -> Kind:
    """The kind of a model for a folder.

    Raises:
        UsageError: too few images, or nothing that a model could be conditioned on.
    """
    if facts.pictures < FEWEST_PICTURES:
        raise UsageError(
            f"{facts.folder}: {facts.pictures} images, too few to train on and to rank; give at "
            f"least {FEWEST_PICTURES}, better some thousands."
        )
    return kind_of(facts, select(facts.columns), wanted)


def kind_of(facts: Facts, selection: Selected, wanted: Kind | None) -> Kind:
    """Class-conditional where an attribute suits, of captions otherwise.

    Raises:
        UsageError: neither is possible, or not the one that is wanted.
    """
    reasons = "; ".join(f"{name}: {why}" for name, why in selection.left_out.items())
    if wanted == "text-to-image" and not facts.captions:
        raise UsageError(
            f"--kind text-to-image: {facts.folder} has no captions (forms: docs/reference/data.md)."
        )
    if selection.chosen:
        return wanted or "dit"
    if facts.captions and wanted != "dit":
        return "text-to-image"
    raise UsageError(
        f"{facts.folder}: no attribute that a model can be conditioned on ({reasons or 'none'}); "
        f"add one to attributes.csv with 2 to {MOST_VALUES} values that {FREQUENT} images or more "
        "carry each, or captions (forms: docs/reference/data.md)."
    )


def example_of(captions: tuple[str, ...]) -> tuple[str, str]:
    """A caption, and a word of it that many captions have and most have not."""
    uses = Counter(word for text in captions for word in set(words_in(text)))
    telling = [word for word in sorted(uses) if uses[word] <= len(captions) / 2] or sorted(uses)
    best = max(telling, key=lambda word: uses[word], default="")
    found = next((text for text in captions if best in words_in(text)), captions[0])
    return found.replace('"', "'"), best


def words_in(text: str) -> list[str]:
    """Words of four letters or more."""
    return re.findall(r"[a-z]{4,}", text.lower())
