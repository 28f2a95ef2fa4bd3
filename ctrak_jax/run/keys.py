"""What each result of a run depends on: allow-lists of settings, in one place.

A result is kept as long as its key is the same. A setting that is in no list below changes no
number beyond rounding, or is what the data set is built from, which its fingerprint stands for.
"""

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ctrak_jax.config import Config
from ctrak_jax.data import Dataset
from ctrak_jax.errors import UsageError
from ctrak_jax.methods import GradientSpec
from ctrak_jax.store.files import digest


def _of(section: str, fields: str) -> tuple[str, ...]:
    return tuple(f"{section}.{field}" for field in fields.split())


_SCHEDULE = _of("schedule", "kind steps prediction shift")
_SCORE = _of("score", "damping damping_for solver k top keep_all")
_TOLD = _of("trajectory", "path condition")
_MEASURES = (*_of("unnamed", "attributes candidates"), "score.ensemble")
_EVALUATE = _of("evaluate", "k hidden_k bootstrap")
_GRID = _of("trajectory", "steps record_every timesteps")

SETTINGS: dict[str, tuple[str, ...]] = {
    "network": _of("model", "kind size family width depth heads patch") + _SCHEDULE,
    "training": _of("train", "steps batch optimizer learning_rate adam_learning_rate warmup")
    + _of("train", "weight_decay clip ema attribute_dropout condition_dropout"),
    "autoencoder": _of("autoencoder", "steps batch learning_rate adam_learning_rate kl"),
    "tuning": _of("tune", "steps batch learning_rate rank alpha include text_encoder")
    + _of("tune", "condition_dropout"),
    "inversion of concepts": _of("customise", "vectors loss steps batch learning_rate seed"),
    "customised pictures": _of("customise", "images first_seed")
    + _of("trajectory", "steps")
    + _of("query", "sampling_guidance"),
    "compute": ("model.dtype", "run.precision"),
    "encoding": _of("encode", "flip dtype"),
    "query-images": _SCHEDULE
    + _of("trajectory", "steps record_every")
    + _of("query", "scopes per_combination validation combinations check attempts")
    + _of("query", "sampling_guidance minus seed"),
    "gradients": _SCHEDULE + _of("gradient", "include exclude") + _of("projection", "kind k seed"),
    "forward": ("trajectory.seed",),
    "inversion": _GRID + _of("trajectory", "guidance negative negatives negative_prompt"),
    "features": ("store.dtype",),
    "query-features": _GRID
    + _of("query", "scopes trajectories sampling_guidance guidance eta repetitions scale minus")
    + _of("query", "seed path timesteps"),
    "unlearning": _GRID + _of("unlearning", "learning_rate fisher_samples"),
    "scores": ("methods", "references", *_TOLD, *_SCORE),
    "metrics": ("methods", "references", "controls", *_MEASURES, *_EVALUATE),
    "bootstrap": ("evaluate.bootstrap",),
    "report": ("name", "methods", "references", *_of("report", "maps groups")),
    "counterfactual": _of("counterfactual", "remove methods scenarios among images"),
    "outputs": ("query.check", *_of("lds", "questions members images")),
    "lds": _of("lds", "subsets trainings share seed"),
    "abc-scores": ("methods", *_TOLD, *_of("score", "damping oracle kernel solver")),
    "abc-measures": ("name", "preset", "references", "evaluate.bootstrap", "data.seed"),
}
"""Lists of settings by name; :data:`RESULTS` says who uses them."""

_FEATURES = ("compute", "gradients", "forward", "features")
_QUERIES = ("compute", "gradients", "query-features")

RESULTS: dict[str, tuple[str, ...]] = {
    "model": ("network", "training"),
    "text-to-image model": ("network", "training", "autoencoder"),
    "published model": ("network",),
    "tuned LoRA": ("compute", "tuning"),
    "customised token": ("compute", "inversion of concepts"),
    "customised pictures": ("compute", "customised pictures"),
    "encoded": ("encoding",),
    "query images": ("compute", "query-images"),
    "features": _FEATURES,
    "features on inversions": (*_FEATURES, "inversion"),
    "query features": _QUERIES,
    "scores": (*_FEATURES, "inversion", *_QUERIES, "unlearning", "scores"),
    "metrics": ("metrics",),
    "report": ("report",),
    "counterfactual": ("counterfactual",),
    "outputs of a subset": ("compute", "query-features", "outputs"),
    "lds": ("lds", "outputs", "bootstrap"),
    "abc scores": (*_FEATURES, "inversion", *_QUERIES, "abc-scores"),
    "abc measures": ("abc-measures",),
}
"""Every result of a run -> the lists of settings that its key has, beside the keys of the results
that it is computed from (the model's hash, the data set's fingerprint, the questions')."""


UNSAID: dict[str, Any] = {
    "data.seed": 0,
    "run.precision": "default",
    "model.family": "unet",
    "schedule.shift": 3.0,
    "report.maps": 0,
    "report.groups": [],
    "query.path": "inversion",
    "query.timesteps": "all",
    "score.oracle": [],
    "score.kernel": "all",
}
"""Settings that came later: at these values they stand in no key, so that keys without them stay as
they are."""


def settings_of(config: Config, result: str) -> dict[str, Any]:
    """The settings that a result depends on, by dotted name."""
    names = dict.fromkeys(name for group in RESULTS[result] for name in SETTINGS[group])
    dumped = config.model_dump(mode="json")
    found = {name: _value(dumped, name) for name in names}
    return {n: value for n, value in found.items() if n not in UNSAID or value != UNSAID[n]}


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
        made_by: the keys of what the features are computed from.
        parameters: how many are differentiated.
        exclude: a control's patterns, left out beside the config's.
        query: of questions, not of training samples.
    """
    on_path = "features on inversions" if spec.path == "inversion" else "features"
    found = nested(settings_of(config, "query features" if query else on_path))
    gradient, trajectory = found.pop("gradient"), found.pop("trajectory")
    del found["model"]  # the dtype that the network computes in is in the model's own key
    return {
        **made_by,
        "loss": spec.loss,
        "trajectory": {"path": spec.path, **trajectory},
        "timesteps": list(timesteps),
        "normalise": spec.normalise,
        "condition": spec.condition,
        "selected": {
            "include": gradient["include"],
            "exclude": [*gradient["exclude"], *exclude],
            "parameters": parameters,
        },
        "dtype": found.pop("store", {"dtype": "float32"})["dtype"],
        "version": version("ctrak-jax"),
        **found.pop("run", {}),
        **found,
    }


def model_key(config: Config, data: Dataset, seed: int) -> dict[str, Any]:
    """What a model depends on: settings, the data, the seed; of a published one its files."""
    if config.model.checkpoint is not None:
        return published_key(config)
    found = {"data": data.fingerprint, "seed": seed}
    if config.model.kind == "dit":
        return found | settings_of(config, "model")
    captions = {"captions": digest(data.captions)}
    return found | captions | settings_of(config, "text-to-image model")


def published_key(config: Config) -> dict[str, Any]:
    """What a model given by ``model.checkpoint`` depends on.

    Raises:
        UsageError: a file or folder of the config is not there.
    """
    model = config.model
    scaled = zip(model.lora, model.lora_scales, strict=True)
    found = {
        **settings_of(config, "published model"),
        "prediction": model.prediction,
        "lora": [[_every_byte(place), scale] for place, scale in scaled],
    }
    if model.t5_tokens is not None:
        found["t5_tokens"] = model.t5_tokens
    for name in ("checkpoint", "folder", "vae"):
        place: Path | None = getattr(model, name)
        if place is not None and not place.exists():
            raise UsageError(f"model.{name}={place}: no such file or folder.")
        found[name] = None if place is None else _content(place)
    return found


def _every_byte(place: Path) -> str:
    """SHA-256 of a file, or of all files in a folder, which are small."""
    if not place.exists():
        raise UsageError(f"model.lora={place}: no such file or folder.")
    if place.is_file():
        return _content(place)
    files = sorted(file for file in place.rglob("*") if file.is_file())
    return digest({str(file.relative_to(place)): _content(file) for file in files})


def _content(checkpoint: Path) -> str:
    """SHA-256 of a file; of a model folder, its configs and the sizes of its weights, which may be
    gigabytes (model.json holds the parameters' own hash)."""
    if checkpoint.is_file():
        with checkpoint.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    files = sorted(file for file in checkpoint.rglob("*") if file.is_file())
    found = {
        str(file.relative_to(checkpoint)): file.read_text("utf-8")
        if file.suffix == ".json"
        else file.stat().st_size
        for file in files
    }
    return digest(found)
