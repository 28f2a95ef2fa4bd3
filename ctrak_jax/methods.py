"""The attribution methods as one table (method.md, section 6).

Methods with the same training gradient share one feature store. The noise of ``forward`` is one
draw per (sample, timestep) for every loss (method.md, section 4); D-TRAK's authors describe one
draw per timestep for all samples.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

Kind = Literal["gradients", "unlearning", "reference"]
ErrorWeight = Literal["sum", "rms"]
StatePath = Literal["forward", "inversion"]
Told = Literal["own", "null"]


class GradientSpec(NamedTuple):
    """What makes up the gradient of a training sample or a query.

    Attributes:
        loss: a name in :mod:`ctrak_jax.reward`; ``slider`` is the concept's, ``reward`` any other
            reward of the concept.
        path: ``forward`` noising or DDIM ``inversion``.
        normalise: divide each timestep's gradient by its norm before summing.
        condition: what a training sample is denoised under, its own or the null condition; a query
            always has its own.
    """

    loss: Literal["dsm", "l2", "l1", "mean", "dps", "slider", "reward"]
    path: StatePath
    normalise: bool
    condition: Told = "own"

    @property
    def by_reward(self) -> bool:
        """Is the concept asked about by a reward other than the slider?"""
        return self.loss == "reward"

    @property
    def knows_concept(self) -> bool:
        """Is the gradient another one for every concept of an image? It has a target shift then."""
        return self.loss in ("slider", "reward")


class Method(NamedTuple):
    """What ranks training images, and how.

    Attributes:
        train: gradient of a training sample; None for what does not work by gradients.
        query: gradient of a query; None likewise.
        error_weight: how denoising errors weigh a score (:func:`ctrak_jax.score.error_weights`).
        kind: by gradients, by unlearning, or a reference, which asks no model that was trained on
            the images (:mod:`ctrak_jax.attribution.references`).
    """

    train: GradientSpec | None
    query: GradientSpec | None
    error_weight: ErrorWeight | None = None
    kind: Kind = "gradients"


_DSM = GradientSpec("dsm", "forward", False)
_L2 = GradientSpec("l2", "forward", False)
_L1 = GradientSpec("l1", "forward", False)
_MEAN = GradientSpec("mean", "forward", True)
_SLIDER_FORWARD = GradientSpec("slider", "forward", False)
_SLIDER_INVERSION = GradientSpec("slider", "inversion", False)

_SLIDER_NORMALISED = GradientSpec("slider", "inversion", True)
_REWARD = GradientSpec("reward", "inversion", True)

CONCEPT_METHODS = ("concept-trak", "reward")
"""Concept-TRAK as its questions are asked: by the slider, or by another reward."""


def concept_trak(path: StatePath, condition: Told) -> Method:
    """Concept-TRAK with the training samples on these states and under this condition: guided
    inversions under their own condition as published, which is the last step (D) of the
    ablation."""
    return Method(GradientSpec("dps", path, True, condition), _SLIDER_NORMALISED)


def concept_methods(path: StatePath, condition: Told) -> dict[str, Method]:
    """The same, and the questions by another reward to the same training features."""
    slider = concept_trak(path, condition)
    methods = (slider, slider._replace(query=_REWARD))
    return dict(zip(CONCEPT_METHODS, methods, strict=True))


METHODS: dict[str, Method] = {
    **concept_methods("forward", "null"),
    "trak": Method(_DSM, _DSM),
    "d-trak": Method(_L2, _L2),
    "das": Method(_L1, _L1, error_weight="sum"),
    "das-paper": Method(_MEAN, _MEAN, error_weight="rms"),
    "unlearning": Method(None, None, kind="unlearning"),
    "ablation-base": Method(_DSM, _DSM),
    "ablation-a": Method(_DSM, _SLIDER_FORWARD),
    "ablation-b": Method(GradientSpec("dps", "forward", False), _SLIDER_FORWARD),
    "ablation-c": Method(GradientSpec("dps", "inversion", False), _SLIDER_INVERSION),
    **dict.fromkeys(
        (
            *("labels", "random"),
            *("similarity-pixels", "similarity-latents", "similarity-text", "similarity-clip"),
        ),
        Method(None, None, kind="reference"),
    ),
}
"""Everything that ranks, by name; ``concept-trak`` as it is by default."""

ATTRIBUTION = tuple(name for name, method in METHODS.items() if method.kind != "reference")
"""The attribution methods."""
REFERENCES = tuple(name for name, method in METHODS.items() if method.kind == "reference")
"""What they are compared with: the label looked up, chance, similarities."""
READ_CONDITIONS = ("labels", "similarity-text")
"""References that read the conditions which candidates are featurized under; the others read
pictures, or nothing."""

ABLATION = ("ablation-base", "ablation-a", "ablation-b", "ablation-c", "concept-trak")


def train_specs(
    methods: Sequence[str], table: Mapping[str, Method] = METHODS
) -> dict[GradientSpec, str]:
    """The distinct training gradients of the methods -> the store that holds their features, which
    bears the name of the first method in the table that needs it."""
    wanted = [table[m].train for m in methods]
    owners: dict[GradientSpec, str] = {}
    for name, method in table.items():
        if method.train is not None and method.train in wanted:
            owners.setdefault(method.train, name)
    return owners


def store_of(method: str) -> str:
    """The name of the store that holds a method's training features."""
    spec = METHODS[method].train
    if spec is None:
        raise ValueError(f"method {method!r} keeps no features.")
    return train_specs([method])[spec]


def needs_errors(specs: Mapping[GradientSpec, str]) -> set[str]:
    """Stores that also keep denoising errors."""
    weighed = {method.train for method in METHODS.values() if method.error_weight}
    return {store for spec, store in specs.items() if spec in weighed}
