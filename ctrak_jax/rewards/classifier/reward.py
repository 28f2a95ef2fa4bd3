"""``classifier`` and ``classifier:FILE``: the reward of a classifier's log-probabilities."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ctrak_jax.config import Config
from ctrak_jax.errors import UsageError
from ctrak_jax.rewards.base import YES, Concept, ConceptReward, RewardRequest
from ctrak_jax.rewards.classifier import file
from ctrak_jax.rewards.classifier.network import Classifier
from ctrak_jax.typing import Array

OWN = "classifier"
"""``query.reward`` of a classifier that the run fits on its own attributes, and the name of its
file without the suffix."""
ANY = "reward"
"""The concept of a question that names none."""


def load(place: str, request: RewardRequest, /) -> ConceptReward:
    """The reward log p(value | picture) of a fitted classifier.

    It answers ATTRIBUTE=VALUE of its heads. Of a head with the value "yes", as those of two folders
    of examples have, the name of the head alone means that value.

    Args:
        place: the classifier's file; empty for the run's own.
        request: what is asked about.

    Raises:
        UsageError: no such file, or it knows nothing of what is asked about.
    """
    where = file_of(place, request.folder)
    found = file.read(where)
    targets = {
        concept: target
        for concept in request.concepts
        if (target := _target(found.classifier, concept)) is not None
    }
    if not targets:
        asked = ", ".join(map(str, request.concepts))
        known = [
            head.attribute if value == YES else f"{head.attribute}={value}"
            for head in found.classifier.heads
            for value in head.values
            if YES not in head.values or value == YES
        ]
        raise UsageError(
            f"the classifier {where} knows {', '.join(known)}, and nothing of what is asked about "
            f"({asked}); fit one that does."
        )
    about = f"the classifier {where}"
    return ConceptReward(found.classifier.log_probability, found.params, targets, about)


def key(place: str, config: Config, folder: Path, /) -> Mapping[str, Any]:
    """The hash of the classifier's file.

    Raises:
        UsageError: no such file, or it is damaged.
    """
    return {"sha256": file.sha256(file_of(place, folder))}


def file_of(place: str, folder: Path) -> Path:
    """The file that is meant: the one given, or that of a run."""
    return Path(place) if place else folder / "rewards" / f"{OWN}{file.SUFFIX}"


def _target(classifier: Classifier, concept: Concept) -> Array | None:
    values = {head.attribute: head.values for head in classifier.heads}
    name, value = concept
    if str(concept) in values:
        name, value = str(concept), YES
    elif value is None and name == ANY and len(values) == 1:
        (name,), value = values, YES
    elif value is None:
        name, _, value = name.partition("=")
    place = classifier.places.get((name, value))
    return None if place is None else np.asarray(place, np.int32)
