"""The classifier of a run's attributes, by which its questions may be asked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ctrak_jax import hosts
from ctrak_jax.config import Config
from ctrak_jax.data import Dataset
from ctrak_jax.errors import UsageError
from ctrak_jax.log import logger, meter, stage
from ctrak_jax.rewards.classifier import examples, file
from ctrak_jax.rewards.classifier.fitting import (
    UNKNOWN,
    ClassifierFit,
    FitSettings,
    accuracy,
    fit,
    steps_for,
)
from ctrak_jax.rewards.classifier.network import NETWORK, Classifier, classifier_of
from ctrak_jax.rewards.classifier.reward import OWN, file_of
from ctrak_jax.stages.context import Context
from ctrak_jax.store.files import plain

POOR = 0.8
"""Accuracy below which a run is warned: such a classifier's gradient says little of the value."""


def is_fitted(config: Config) -> bool:
    """Is the reward a classifier that the run fits?"""
    return config.query.reward == OWN


def fit_for_run(contexts: Sequence[Context]) -> None:
    """Leave the classifier of ``query.reward: classifier`` with every training seed, fitted on the
    training set unless it is there.

    Raises:
        UsageError: no attribute has two values, or the loss is not finite.
    """
    config = contexts[0].config
    if not is_fitted(config):
        return
    if hosts.is_first():
        _fit_and_keep(contexts)
    hosts.barrier("classifier fitted")


def _fit_and_keep(contexts: Sequence[Context]) -> None:
    ctx = contexts[0]
    data, files = ctx.training_set, [file_of("", one.folder.root) for one in contexts]
    steps = steps_for(min(len(data.train_index), examples.MOST))
    settings = FitSettings(steps, seed=ctx.seed)
    classifier = classifier_of(
        {name: data.conditions.vocabulary[name] for name in data.conditions.attributes},
        min(data.image_shape[:2]),
    )
    made_from = {"data": data.fingerprint, "fit": settings._asdict(), "network": NETWORK}
    if all(place.exists() and _made_from(place) == plain(made_from) for place in files):
        return
    with stage(ctx.folder.root, "reward", 1) as record:
        found = examples.of_pictures(
            lambda rows: np.asarray(data.raw.images[data.train_index[rows]]),
            values_of(data, classifier),
            classifier.side,
            settings.seed,
        )
        with meter("classifier", settings.steps) as bar:
            fitted = fit(classifier, found, settings, bar.advance, seed_setting="run.seeds")
        record.samples = settings.steps * settings.batch
        record.extra = {"held_out": file.held_out_summary(fitted)}
        _log_accuracy(fitted)
        for place in files:
            file.write(place, fitted, made_from)


def values_of(data: Dataset, classifier: Classifier) -> np.ndarray:
    """The places of the training images' values in the heads [n, head]; those that the model is not
    told stay unknown to the classifier, too."""
    columns = []
    for head in classifier.heads:
        place = {value: number for number, value in enumerate(head.values)}
        column = [place.get(values[head.attribute], UNKNOWN) for values in data.train_values]
        columns.append(np.where(data.named(head.attribute), column, UNKNOWN))
    return np.stack(columns, axis=1).astype(np.int32)


def _made_from(place: Path) -> Any:
    try:
        return file.read(place).about["made_from"]
    except UsageError:
        return None


def _log_accuracy(fitted: ClassifierFit) -> None:
    shares = accuracy(fitted.sharp)
    said = ", ".join(f"{name} {share:.3f}" for name, share in shares.items())
    logger.info("classifier: accuracy on pictures held out: %s", said)
    poor = [name for name, share in shares.items() if share < POOR]
    if poor:
        logger.warning(
            "the classifier tells the values of %s apart in less than %d%% of the pictures held "
            "out: read its answers about them with care",
            *(", ".join(poor), 100 * POOR),
        )
