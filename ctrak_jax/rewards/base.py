"""What a reward is."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from jaxtyping import Float

from ctrak_jax.config import Config
from ctrak_jax.typing import Array, Params, Scalar, TargetReward

Picture = Float[Array, "height width 3"]
"""One picture in [-1, 1], float32."""

PictureReward = Callable[[Params, Picture, Array], Scalar]
"""(params, picture, target) -> how much of the concept it shows, larger for more: a pure function
of ONE picture, differentiable by JAX, traced inside compiled programs."""


YES, NO = "yes", "no"
"""Values of a concept that a picture shows, or does not."""


class Concept(NamedTuple):
    """What a question is about: an attribute and its value, or words (and no value)."""

    name: str
    value: str | None = None

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}={self.value}"


class ConceptReward(NamedTuple):
    """A reward of pictures for several concepts.

    Attributes:
        fn: the reward (:data:`PictureReward`). The picture is a network's posterior mean (decoded,
            where the network sees latents), so its values may lie outside [-1, 1].
        params: a pytree of arrays, an argument of the compiled programs.
        targets: concept -> what tells ``fn`` the concept, arrays of one shape and dtype: the index
            of a class, the embedding of a text. A concept that is not there is not answered.
        about: what messages call it, such as the file and line of a function.
    """

    fn: PictureReward
    params: Params
    targets: Mapping[Concept, Array]
    about: str = "query.reward"

    def target(self, concept: Concept) -> Array:
        """What tells ``fn`` a concept; of one that is not answered, any other's."""
        return self.targets.get(concept, next(iter(self.targets.values())))


def params_of(reward: ConceptReward | None) -> Params:
    """The parameters of a reward; None without one."""
    return None if reward is None else reward.params


def rated(reward: ConceptReward | None, params: Params) -> TargetReward | None:
    """A reward as the mathematics takes it, with parameters that may be traced."""
    if reward is None:
        return None
    fn = reward.fn
    return lambda picture, target: fn(params, picture, target)


class RewardRequest(NamedTuple):
    """What a reward is loaded for.

    Attributes:
        config: the run's, for the settings that a kind has.
        concepts: what is asked about.
        image_shape: of the pictures [H, W, 3].
        folder: the run's folder.
    """

    config: Config
    concepts: tuple[Concept, ...]
    image_shape: tuple[int, int, int]
    folder: Path
