"""The main experiment and its controls: the same stages with one thing changed."""

from collections.abc import Sequence
from typing import NamedTuple


class Variant(NamedTuple):
    """One way of featurizing.

    Attributes:
        name: folder under ``controls/``; empty for the main experiment.
        exclude: further parameter patterns left out of the selection.
        relabel: share of the training images featurized under a wrong condition.
    """

    name: str = ""
    exclude: tuple[str, ...] = ()
    relabel: float = 0.0

    def title(self, stage: str) -> str:
        return f"{stage} ({self.name})" if self.name else stage


MAIN = Variant()
CONTROLS: dict[str, Variant] = {
    "no-condition-embedding": Variant("no-condition-embedding", ("condition_embedding/*",)),
    "wrong-label": Variant("wrong-label", relabel=0.2),
}


def variants(controls: Sequence[str]) -> list[Variant]:
    """The main experiment and the controls named."""
    return [MAIN, *(CONTROLS[name] for name in controls)]
