"""How methods, scenarios and concepts are called where a person reads them."""

from collections.abc import Iterable
from typing import NamedTuple


class Label(NamedTuple):
    """A method's name for people: ``short`` for tables, ``note`` for what it does; a reference is
    shown below the methods and apart from them, an average of several models below its method."""

    short: str
    note: str
    reference: bool = False
    average: bool = False

    @property
    def full(self) -> str:
        return f"{self.short}: {self.note}" if self.note else self.short


MAIN = "concept-trak"
OURS = (MAIN, "reward")
"""Concept-TRAK, by whatever its questions are asked: no rivals of one another."""

# The paper's last step, D, is C with per-timestep normalisation. Concept-TRAK is D in the published
# setting; by default its training samples are on other states and under another condition.
LADDER: dict[str, Label] = {
    "ablation-base": Label("Base", "dsm train and query gradients"),
    "ablation-a": Label("A", "+ concept query gradient"),
    "ablation-b": Label("B", "+ dps train gradient"),
    "ablation-c": Label("C", "+ DDIM inversion"),
    MAIN: Label("Concept-TRAK", "as configured (paper's D: C + per-timestep normalisation)"),
}

# The order is the order of every table and chart: ours, its rivals, the ladder's steps, references.
_LABELS: dict[str, Label] = {
    MAIN: Label("Concept-TRAK", ""),
    "reward": Label("Concept-TRAK, reward", "asked by query.reward"),
    "das": Label("DAS", ""),
    "das-paper": Label("DAS (paper form)", ""),
    "d-trak": Label("D-TRAK", ""),
    "trak": Label("TRAK", ""),
    "unlearning": Label("Unlearning", ""),
    **{
        method: step._replace(short=f"Ablation {step.short}")
        for method, step in LADDER.items()
        if method != MAIN
    },
    "labels": Label("Labels", "the label looked up", True),
    "carriers": Label("Carriers", "how many carry the concept", True),
    "random": Label("Random", "a random order", True),
    "trained-again": Label("Trained again", "one training by another on the same subset", True),
    "best-possible": Label("Best possible", "scores that predict the mean output", True),
    "similarity-pixels": Label("Similarity, pixels", "L2 distance", True),
    "similarity-latents": Label("Similarity, latents", "L2 distance", True),
    "similarity-text": Label("Similarity, text", "cosine of captions", True),
    "similarity-clip": Label("Similarity, CLIP", "cosine of embeddings", True),
}

SCOPES = ("local", "part", "global")
SCENARIOS = ("id", "ood")
SCENARIO_NAMES = {"id": "in distribution", "ood": "out of distribution"}
SCENARIO_SHORT = {"id": "ID", "ood": "OOD"}

_ORDER = {method: place for place, method in enumerate(_LABELS)}
_BARE_VALUES = frozenset({"0", "1", "-1", "yes", "no", "true", "false"})


def label(method: str) -> Label:
    """The label of ``method``; a method unknown here goes by its own name."""
    return _LABELS.get(method, Label(method, ""))


def average_label(method: str, models: int) -> Label:
    """The label of a method's average over ``models`` models."""
    return Label(label(method).short, f"average of {models} models", average=True)


def is_ablation(method: str) -> bool:
    """Whether ``method`` is a step of the ladder below the full method."""
    return method.startswith("ablation-")


def ordered(methods: Iterable[str]) -> tuple[str, ...]:
    """Distinct ``methods`` in reading order, unknown ones last and by name."""
    return tuple(sorted(set(methods), key=lambda m: (_ORDER.get(m, len(_ORDER)), m)))


def concept_text(attribute: str, value: str) -> str:
    """What the concept is called in a sentence: ``red``, but ``smiling = yes``."""
    return f"{attribute} = {value}" if value.lower() in _BARE_VALUES else value
