"""What the rules of ``ctrak init`` go by, and what they give."""

import math
from typing import Any, Literal, NamedTuple

from ctrak_jax.config import Config
from ctrak_jax.start import costs
from ctrak_jax.start.columns import Selected
from ctrak_jax.start.look import Facts, combinations_of
from ctrak_jax.start.pictures import Frame

Kind = Literal["dit", "text-to-image"]


class Machine(NamedTuple):
    """A machine, its float32 matmul rate in GFLOP/s, and the minutes that a run may take."""

    name: str
    gflops: float
    minutes: float


class Choice(NamedTuple):
    """A setting by its dotted name, its value, and why."""

    setting: str
    value: Any
    why: str


class Situation(NamedTuple):
    """What rules know: the folder, the machine, and what was chosen before."""

    facts: Facts
    kind: Kind
    selection: Selected
    frame: Frame
    machine: Machine
    choices: tuple[Choice, ...]

    @property
    def config(self) -> Config:
        """The config so far."""
        return config_of(self.choices)

    @property
    def values(self) -> int:
        """Values of the chosen attributes."""
        return sum(len(column.counts) for column in self.selection.chosen)

    @property
    def combinations(self) -> int:
        """Combinations of their values that occur."""
        return len(combinations_of(self.selection.chosen))

    @property
    def every_caption(self) -> bool:
        """Can the condition with one value changed be expressed: always as numbers, in words where
        every combination has an image and so a caption?"""
        chosen = self.selection.chosen
        whole = math.prod(len(column.counts) for column in chosen)
        return self.kind == "dit" or (bool(chosen) and self.combinations == whole)

    def minutes(self, flops: float) -> float:
        return costs.minutes(flops, self.machine.gflops)


def config_of(choices: tuple[Choice, ...]) -> Config:
    """The config of some settings."""
    nested: dict[str, Any] = {}
    for choice in choices:
        section, _, name = choice.setting.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[name] = choice.value
    return Config.model_validate(nested)


def spent(at: Situation) -> costs.Minutes:
    """Minutes of a run by the settings chosen."""
    config, side = at.config, at.frame.side
    ranked = config.data.candidates or at.facts.pictures
    images, concepts, q = 0, len(config.data.condition_on), config.query
    if concepts:
        images = min(q.combinations, at.combinations) * (q.per_combination + q.validation)
    return costs.Minutes(
        training=at.minutes(costs.training(config, side)),
        featurizing=at.minutes(costs.featurizing(config, side, ranked)),
        questions=at.minutes(costs.questions(config, side, images, concepts)),
    )
