"""The run's model, trained again on a subset of its images: what ``counterfactual`` and ``lds``
share."""

from dataclasses import replace

import numpy as np

from ctrak_jax.data import Dataset
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.log import deadline, stage
from ctrak_jax.models.stable_diffusion import ModelFiles
from ctrak_jax.models.training import Trainer
from ctrak_jax.run import model_file
from ctrak_jax.run.questions import Question
from ctrak_jax.stages import train
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.query import accepted_by
from ctrak_jax.stages.train import ModelTraining
from ctrak_jax.typing import Params

IMAGES_APART = 2**30
"""Keeps the images looked at, and their noise, from being those of the questions."""


def require_able(ctx: Context, command: str) -> None:
    """Refuse what cannot be trained again, or was not scored whole.

    Raises:
        UsageError: the run trained no class-conditional model of its own, or keeps no scores.
    """
    config = ctx.config
    if config.model.kind != "dit" or config.model.checkpoint is not None:
        raise UsageError(
            f"{command} trains the run's model again, which model.kind={config.model.kind}, "
            f"model.checkpoint={config.model.checkpoint} does not allow; use model.kind: dit "
            "without a checkpoint."
        )
    if not config.score.keep_all:
        raise UsageError(
            f"{command} needs every score, score.keep_all=false keeps the first ones; set it "
            "to true and run `ctrak score`."
        )


def without(data: Dataset, index: np.ndarray) -> Dataset:
    """The same data with some images, by dataset index, kept out of training."""
    return replace(data, train_index=np.setdiff1d(data.train_index, index))


def trained(again: ModelTraining, program: Trainer, command: str) -> Params:
    """The model, trained unless it is there.

    Args:
        again: the run's training with other images and a folder of its own, in a folder that
            belongs to it alone.
        program: that of the run's training.
        command: names itself in errors.

    Raises:
        StoreError: what is there is damaged or of other settings.
    """
    folder, root = again.folder, again.folder.parent
    try:
        if not train.done(again):
            with stage(root, "train", again.mesh.size) as record:
                train.fit(again, program, record)
            deadline.check()
        return model_file.load(folder, ModelFiles(folder), again.architecture, again.mesh).params
    except StoreError as error:
        reason = str(error).partition(";")[0]
        raise StoreError(f"{reason}; delete {root} and run `ctrak {command}` again.") from error


def presence(ctx: Context, images: np.ndarray, question: Question) -> float | None:
    """Share of the images [n, H, W, 3] that show the concept; None where the run checks none."""
    if ctx.config.query.check == "none":
        return None
    shows = accepted_by(ctx, {question.attribute: question.value})
    return float(np.mean([shows(image) for image in images]))
