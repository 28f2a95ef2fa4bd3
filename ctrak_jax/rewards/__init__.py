"""Rewards that questions are asked with, beside the slider (method.md, section 2).

A reward says how much of a concept a PICTURE shows. ``query.reward`` names it, ``KIND`` or
``KIND:PLACE``, and :data:`KINDS` says who makes it. A kind is two functions: one loads the reward
for the concepts that are asked about, the other says what it depends on, for the keys of results.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ctrak_jax.config import Config
from ctrak_jax.config.query import kind_of
from ctrak_jax.rewards import similarity, user_file
from ctrak_jax.rewards.base import Concept, ConceptReward, RewardRequest, params_of, rated
from ctrak_jax.rewards.check import check
from ctrak_jax.rewards.classifier import reward

__all__ = [
    "KINDS",
    "Concept",
    "ConceptReward",
    "RewardKind",
    "RewardRequest",
    "check",
    "key",
    "kind_of",
    "of",
    "params_of",
    "rated",
]


class LoadReward(Protocol):
    """Loads a reward.

    Raises:
        UsageError: there is none at that place, or none that fits what is wanted.
    """

    def __call__(self, place: str, request: RewardRequest, /) -> ConceptReward: ...


class RewardKind(NamedTuple):
    """One way of having a reward.

    Attributes:
        load: the reward, given the PLACE of its name and what is wanted of it.
        key: what the reward depends on, such as the hashes of its files; the same arguments but
            the concepts and the size.
    """

    load: LoadReward
    key: Callable[[str, Config, Path], Mapping[str, Any]]


KINDS: dict[str, RewardKind] = {
    "classifier": RewardKind(reward.load, reward.key),
    "similarity": RewardKind(similarity.load, similarity.key),
    "python": RewardKind(user_file.load, user_file.key),
}
"""The rewards by kind; ``slider``, the default, is none: it asks the network itself."""


def of(
    config: Config,
    concepts: Sequence[Concept],
    image_shape: tuple[int, int, int],
    folder: Path,
) -> ConceptReward | None:
    """The reward that a config asks with; None for the slider.

    Args:
        config: ``query.reward`` names it.
        concepts: what is asked about.
        image_shape: of the pictures that it is to judge [H, W, 3].
        folder: the run's.

    Raises:
        UsageError: there is no such reward, or none that fits.
    """
    kind, place = kind_of(config.query.reward)
    if kind == "slider":
        return None
    return KINDS[kind].load(place, RewardRequest(config, tuple(concepts), image_shape, folder))


def key(config: Config, folder: Path) -> dict[str, Any]:
    """What the reward of a config depends on, for the keys of results.

    Raises:
        UsageError: a file is not there.
    """
    kind, place = kind_of(config.query.reward)
    found = {} if kind == "slider" else KINDS[kind].key(place, config, folder)
    return {"kind": kind, **found}
