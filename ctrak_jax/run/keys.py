"""What each result of a run depends on: allow-lists of settings, in one place.

A result is kept as long as its key is the same. A setting that is in no list below changes no
number beyond rounding, or is what the data set is built from, which its fingerprint stands for.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from ctrak_jax.config import Config
from ctrak_jax.methods import GradientSpec

_SCHEDULE = ("schedule.kind", "schedule.steps", "schedule.prediction")
_GRADIENT = ("gradient.include", "gradient.exclude")
_PROJECTION = ("projection.kind", "projection.k", "projection.seed")
_GRID = ("trajectory.steps", "trajectory.record_every", "trajectory.timesteps")
_NEGATIVES = ("trajectory.negative", "trajectory.negatives", "trajectory.negative_prompt")
_NETWORK = ("model.kind", "model.size", "model.width", "model.depth", "model.heads", "model.patch")
_SCORED = ("score.damping", "score.damping_for", "score.k", "score.top", "score.keep_all")

SETTINGS: dict[str, tuple[str, ...]] = {
    "network": (*_NETWORK, *_SCHEDULE),
    "training": (
        "train.steps",
        "train.batch",
        "train.optimizer",
        "train.learning_rate",
        "train.adam_learning_rate",
        "train.warmup",
        "train.weight_decay",
        "train.clip",
        "train.ema",
        "train.attribute_dropout",
    ),
    "autoencoder": (
        "autoencoder.steps",
        "autoencoder.batch",
        "autoencoder.learning_rate",
        "autoencoder.adam_learning_rate",
        "autoencoder.kl",
    ),
    "compute": ("model.dtype",),
    "encoding": ("encode.flip", "encode.dtype"),
    "query-images": (
        *_SCHEDULE,
        "trajectory.steps",
        "trajectory.record_every",
        "query.scopes",
        "query.per_combination",
        "query.validation",
        "query.combinations",
        "query.check",
        "query.attempts",
        "query.sampling_guidance",
        "query.minus",
        "query.seed",
    ),
    "gradients": (*_SCHEDULE, *_GRADIENT, *_PROJECTION),
    "forward": ("trajectory.seed",),
    "inversion": (*_GRID, *_NEGATIVES, "trajectory.guidance"),
    "features": ("store.dtype",),
    "query-features": (
        *_GRID,
        "query.scopes",
        "query.trajectories",
        "query.sampling_guidance",
        "query.guidance",
        "query.eta",
        "query.repetitions",
        "query.scale",
        "query.seed",
    ),
    "unlearning": ("unlearning.learning_rate", "unlearning.fisher_samples", *_GRID),
    "scores": ("methods", *_SCORED),
    "metrics": ("methods", "controls", "evaluate.k", "evaluate.bootstrap"),
    "report": ("name", "methods"),
    "counterfactual": (
        "counterfactual.remove",
        "counterfactual.methods",
        "counterfactual.scenarios",
        "counterfactual.images",
    ),
    "abc": ("name", "preset", "methods", *_SCORED, "evaluate.bootstrap"),
}
"""Every list of settings by name; :data:`RESULTS` says who uses it."""

RESULTS: dict[str, tuple[str, ...]] = {
    "model": ("network", "training"),
    "text-to-image model": ("network", "training", "autoencoder"),
    "published model": ("network",),
    "encoded": ("encoding",),
    "query images": ("compute", "query-images"),
    "features": ("compute", "gradients", "forward", "features"),
    "features on inversions": ("compute", "gradients", "forward", "features", "inversion"),
    "query features": ("compute", "gradients", "query-features"),
    "scores": (
        "compute",
        "gradients",
        "forward",
        "inversion",
        "features",
        "query-features",
        "unlearning",
        "scores",
    ),
    "metrics": ("metrics",),
    "report": ("report",),
    "counterfactual": ("counterfactual",),
    "abc": ("compute", "gradients", "forward", "inversion", "features", "query-features", "abc"),
}
"""Every result of a run -> the lists of settings that its key has, beside the keys of the results
that it is computed from (the model's hash, the data set's fingerprint, the questions')."""


def settings_of(config: Config, result: str) -> dict[str, Any]:
    """The settings that a result depends on, by dotted name."""
    names = dict.fromkeys(name for group in RESULTS[result] for name in SETTINGS[group])
    found = config.model_dump(mode="json")
    return {name: _value(found, name) for name in names}


def _value(found: Any, name: str) -> Any:
    for part in name.split("."):
        found = found[part]
    return found


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names as sections: ``{"train": {"steps": 100}}``."""
    tree: dict[str, Any] = {}
    for name, value in settings.items():
        *sections, field = name.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[field] = value
    return tree


def feature_key(
    config: Config,
    spec: GradientSpec,
    *,
    made_by: Mapping[str, Any],
    timesteps: Sequence[int],
    parameters: int,
    exclude: Sequence[str] = (),
    query: bool = False,
) -> dict[str, Any]:
    """What a row of features depends on, as a store's manifest has it.

    Args:
        config: the run's.
        spec: the gradient.
        made_by: the keys of what the features are computed from.
        timesteps: the attribution timesteps.
        parameters: how many are differentiated.
        exclude: a control's patterns, left out beside the config's.
        query: of questions, not of training samples.
    """
    on_path = "features on inversions" if spec.path == "inversion" else "features"
    found = nested(settings_of(config, "query features" if query else on_path))
    gradient, trajectory = found.pop("gradient"), found.pop("trajectory")
    return {
        **made_by,
        "loss": spec.loss,
        "trajectory": {"path": spec.path, **trajectory},
        "timesteps": list(timesteps),
        "normalise": spec.normalise,
        "selected": {
            "include": gradient["include"],
            "exclude": [*gradient["exclude"], *exclude],
            "parameters": parameters,
        },
        "dtype": found.pop("store", {"dtype": "float32"})["dtype"],
        "version": version("ctrak-jax"),
        **found,
    }
