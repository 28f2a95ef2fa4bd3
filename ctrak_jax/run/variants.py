"""The main experiment, and the same stages with one thing changed: controls, and candidates whose
conditions do not name the attribute asked about (method.md, section 13)."""

import re
import zlib
from typing import NamedTuple

from ctrak_jax.attribution.train import passes
from ctrak_jax.config import Config
from ctrak_jax.methods import GradientSpec, Method, concept_methods, train_specs


class Variant(NamedTuple):
    """One way of featurizing the candidates.

    Attributes:
        name: what messages call it; empty for the main experiment.
        folder: where its results are, relative to the run's.
        exclude: further parameter patterns left out of the selection.
        relabel: share of the candidates featurized under a wrong condition.
        without: the attribute that no candidate's condition names, the one asked about.
        candidates: how many candidates are ranked, drawn at random; None for all.
    """

    name: str = ""
    folder: str = ""
    exclude: tuple[str, ...] = ()
    relabel: float = 0.0
    without: str | None = None
    candidates: int | None = None

    @property
    def changes_network(self) -> bool:
        """Are the questions' features of its own? Where conditions alone are changed they are those
        of the main experiment."""
        return bool(self.exclude)

    def ranks_all(self, count: int) -> bool:
        """Are all of so many candidates ranked?"""
        return self.candidates is None or self.candidates >= count

    def title(self, stage: str) -> str:
        return f"{stage} ({self.name})" if self.name else stage


MAIN = Variant()
CONTROLS: dict[str, Variant] = {
    "no-condition-embedding": Variant(
        "no-condition-embedding",
        "controls/no-condition-embedding",
        exclude=("condition_embedding/*",),
    ),
    "wrong-label": Variant("wrong-label", "controls/wrong-label", relabel=0.2),
}


def unnamed(config: Config) -> list[Variant]:
    """One for every attribute that the config measures unnamed precision of."""
    wanted = config.unnamed
    names = config.data.condition_on if wanted.attributes == "all" else wanted.attributes
    return [
        Variant(
            f"without {name}",
            folder_without(name),
            without=name,
            candidates=wanted.candidates,
        )
        for name in names
    ]


def controls(config: Config) -> list[Variant]:
    """The config's controls."""
    return [CONTROLS[name] for name in config.compared_controls]


def variants(config: Config) -> list[Variant]:
    """The main experiment, its controls, and one without every attribute asked about."""
    return [MAIN, *controls(config), *unnamed(config)]


def table_of(config: Config, variant: Variant = MAIN) -> dict[str, Method]:
    """Everything that ranks, as it is in a variant."""
    t = config.trajectory
    if variant.without is None or t.condition != "unnamed":
        return config.table
    return config.table | concept_methods(t.path, "own")


def featurized_in(config: Config, method: str, variant: Variant, count: int) -> Variant:
    """Whose features of ``count`` candidates a method has in a variant: the main ones, where the
    variant changes conditions alone and the method gets none."""
    spec = table_of(config, variant)[method].train
    free = spec is not None and spec.condition == "null"
    return MAIN if free and variant.ranks_all(count) and not variant.changes_network else variant


class FeatureSet(NamedTuple):
    """What a variant featurizes.

    Attributes:
        variant: whose features they are.
        methods: those that have features of their own in it.
        samples: how many candidates.
    """

    variant: Variant
    methods: tuple[str, ...]
    samples: int

    def specs(self, config: Config) -> dict[GradientSpec, str]:
        """The training gradients, and the stores that hold their features."""
        return train_specs(self.methods, table_of(config, self.variant))

    def passes(self, config: Config) -> int:
        """Forward passes per candidate."""
        t = config.trajectory
        return passes(
            self.specs(config),
            timesteps=config.timesteps,
            stride=t.record_every,
            negatives=config.negatives,
            guidance=t.guidance,
        )


def feature_set(config: Config, variant: Variant, count: int) -> FeatureSet:
    """What a variant featurizes of a run over ``count`` candidates."""
    samples = min(count, variant.candidates or count)
    own = [m for m in config.methods if featurized_in(config, m, variant, count) == variant]
    return FeatureSet(variant, tuple(own), samples)


def feature_sets(config: Config, count: int) -> list[FeatureSet]:
    """Everything that one model of a run featurizes; variants that need nothing are left out."""
    found = [feature_set(config, variant, count) for variant in variants(config)]
    return [one for one in found if one.specs(config)]


def folder_without(attribute: str) -> str:
    """Where the results are of candidates whose conditions do not name an attribute, relative to
    the run's."""
    return f"unnamed/{_file_name(attribute)}"


def _file_name(attribute: str) -> str:
    """The attribute's name, fit for a file's; a checksum stands for characters that had to go."""
    safe = re.sub(r"[^A-Za-z0-9._+-]", "_", attribute)
    return safe if safe == attribute else f"{safe}-{zlib.crc32(attribute.encode()):08x}"
