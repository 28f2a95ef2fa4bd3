"""Train the model, or take a published checkpoint: writes ``model/``."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from ctrak_jax.config import AutoencoderConfig, Config, TrainConfig
from ctrak_jax.data import Dataset, TrainingBatches
from ctrak_jax.errors import UsageError
from ctrak_jax.inputs.latents import require_captions
from ctrak_jax.log import StageRecord, stage
from ctrak_jax.models import DiT, load_published
from ctrak_jax.models.architecture import Architecture, transformer_size
from ctrak_jax.models.checkpointed import Chunking, checkpointed, refuse_other
from ctrak_jax.models.denoiser import eps_fn_of
from ctrak_jax.models.stable_diffusion.small import Size
from ctrak_jax.models.stable_diffusion.small_training import (
    FitSpec,
    SmallTraining,
    train_text_to_image,
)
from ctrak_jax.models.training import OptimizerSpec, Trainer, optimizer, trainer
from ctrak_jax.run import model_file
from ctrak_jax.run.keys import model_key
from ctrak_jax.stages.context import Context
from ctrak_jax.typing import Params


class ModelTraining(NamedTuple):
    """The training of one class-conditional model.

    Attributes:
        folder: becomes the model's; checkpoints go beside it until it is there.
        seed: of the parameters and the order.
    """

    folder: Path
    config: Config
    architecture: Architecture
    data: Dataset
    seed: int
    mesh: Mesh

    @property
    def made_from(self) -> dict[str, Any]:
        """What the model depends on."""
        return model_key(self.config, self.data, self.seed)


def training_of(ctx: Context) -> ModelTraining:
    """The run's own training."""
    return ModelTraining(
        ctx.folder.model, ctx.config, ctx.architecture, ctx.training_set, ctx.seed, ctx.mesh
    )


def done(training: ModelTraining) -> bool:
    """Is the model of these inputs there?

    Raises:
        StoreError: a model from other inputs is there, or a damaged one.
    """
    if not (training.folder / "model.json").exists():
        return False
    found = model_file.about(training.folder)["made_from"]
    refuse_other(training.folder, training.made_from, found)
    return True


def run(ctx: Context) -> None:
    """Leave a model, trained unless there is one from the same inputs.

    Raises:
        StoreError: a model from other inputs is already there.
    """
    training, model = training_of(ctx), ctx.config.model
    if done(training):
        return
    if model.kind == "text-to-image":
        if model.checkpoint is None:
            _train_text_to_image(ctx)
        model_file.adopt(training.folder, ctx.model_source, ctx.architecture, training.made_from)
    elif model.checkpoint is not None:
        network, (size,) = ctx.architecture.network, ctx.architecture.condition.shape
        assert isinstance(network, DiT)
        params = load_published(network, model.checkpoint, ctx.training_set.image_shape, size)
        save(training, params)
    else:
        with stage(ctx.folder.root, "train", ctx.mesh.size) as record:
            fit(training, make_trainer(training), record)


def fit(training: ModelTraining, program: Trainer, record: StageRecord) -> None:
    """Train a model and keep it; resumes where it was stopped. The program of one config serves
    every seed and set of images."""
    train, mesh = training.config.train, training.mesh
    if train.batch % mesh.size:
        raise UsageError(
            f"train.batch={train.batch} must be a multiple of the {mesh.size} devices."
        )
    checkpoints = training.folder.parent / "training"
    found = checkpointed(
        program,
        training.architecture.create(training.seed),
        TrainingBatches(training.data, batch=train.batch, seed=training.seed),
        Chunking(train.steps, train.scan, train.checkpoint_every),
        key=jax.random.key(training.seed),
        folder=checkpoints,
        inputs=training.made_from,
        mesh=mesh,
        title=f"train (seed {training.seed})",
        too_fast="train.learning_rate",
    )
    save(training, found.params)
    shutil.rmtree(checkpoints, ignore_errors=True)
    record.samples = found.steps * train.batch
    record.extra = {"loss": round(found.loss, 5), "seed": training.seed}


def save(training: ModelTraining, params: Params) -> None:
    """Leave a model of these parameters."""
    about = described(training.architecture, training.data)
    model_file.save(training.folder, params, about, training.made_from)


def make_trainer(training: ModelTraining) -> Trainer:
    """The compiled part of a training; of its data it takes the attributes alone."""
    config, architecture = training.config, training.architecture
    return trainer(
        eps_fn_of(architecture.network.in_float32(), *architecture.noise),
        architecture.schedule,
        optimizer(_optimizer_spec(config.train, config.train)),
        blocks=training.data.conditions.blocks,
        attribute_dropout=config.train.attribute_dropout,
        condition_dropout=config.train.condition_dropout,
        ema=config.train.ema,
    )


def described(architecture: Architecture, data: Dataset) -> dict[str, Any]:
    """What model.json says of a class-conditional network."""
    network = architecture.network
    assert isinstance(network, DiT)
    return {
        "network": "DiT",
        "width": network.width,
        "depth": network.depth,
        "heads": network.heads,
        "patch": network.patch,
        "condition": {k: list(v) for k, v in data.conditions.vocabulary.items()},
        "image": list(data.image_shape),
    }


def _train_text_to_image(ctx: Context) -> None:
    """A small Stable Diffusion from scratch."""
    data, train, coding = ctx.training_set, ctx.config.train, ctx.config.autoencoder
    require_captions(data)
    rows, schedule = data.train_index, ctx.config.schedule
    settings = SmallTraining(
        size=Size(image=data.image_shape[0]),
        autoencoder=FitSpec(_optimizer_spec(train, coding), coding.batch, train.ema),
        denoiser=FitSpec(_optimizer_spec(train, train), train.batch, train.ema),
        kl=coding.kl,
        text_dropout=train.condition_dropout,
        schedule=schedule.kind,
        schedule_steps=schedule.steps,
        prediction=schedule.prediction,
        scan=train.scan,
        checkpoint_every=train.checkpoint_every,
        transformer=transformer_size(ctx.config.model),
        shift=schedule.shift,
    )
    with stage(ctx.folder.root, "train", ctx.mesh.size) as record:
        train_text_to_image(
            ctx.folder.model,
            np.asarray(data.raw.images[rows]),
            [data.captions[row] for row in rows],
            settings,
            ctx.seed,
            mesh=ctx.mesh,
        )
        record.samples = train.steps * train.batch + coding.steps * coding.batch
        record.extra = {"seed": ctx.seed}


def _optimizer_spec(train: TrainConfig, rates: TrainConfig | AutoencoderConfig) -> OptimizerSpec:
    """The optimiser of ``train``, for the steps and at the rates of ``rates``."""
    return OptimizerSpec(
        rates.steps,
        rates.learning_rate,
        rates.adam_learning_rate,
        train.optimizer,
        train.warmup,
        train.weight_decay,
        train.clip,
    )
