"""The main experiment, and the same stages with one thing changed: controls, and candidates whose
conditions do not name the attribute asked about (method.md, section 13)."""

import re
import zlib
from typing import NamedTuple

from ctrak_jax.config import Config


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
    return [CONTROLS[name] for name in config.controls]


def variants(config: Config) -> list[Variant]:
    """The main experiment, its controls, and one without every attribute asked about."""
    return [MAIN, *controls(config), *unnamed(config)]


def folder_without(attribute: str) -> str:
    """Where the results are of candidates whose conditions do not name an attribute, relative to
    the run's."""
    return f"unnamed/{_file_name(attribute)}"


def _file_name(attribute: str) -> str:
    """The attribute's name, fit for a file's; a checksum stands for characters that had to go."""
    safe = re.sub(r"[^A-Za-z0-9._+-]", "_", attribute)
    return safe if safe == attribute else f"{safe}-{zlib.crc32(attribute.encode()):08x}"
