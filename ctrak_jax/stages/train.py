"""Train the model, or take a published checkpoint: writes ``model/``."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ctrak_jax.config import AutoencoderConfig, TrainConfig
from ctrak_jax.data import TrainingBatches
from ctrak_jax.errors import UsageError
from ctrak_jax.inputs.latents import require_captions
from ctrak_jax.log import stage
from ctrak_jax.models import create, load_published
from ctrak_jax.models.checkpointed import Pace, Trained, checkpointed, refuse_other
from ctrak_jax.models.denoiser import eps_fn_of
from ctrak_jax.models.stable_diffusion.small_training import Fit, Settings, train_text_to_image
from ctrak_jax.models.training import Rule, Trainer, optimizer, trainer
from ctrak_jax.stages import model
from ctrak_jax.stages.context import Context, dit_of
from ctrak_jax.store.files import digest


def done(ctx: Context) -> bool:
    """Is the model of these inputs in ``root/model``?

    Raises:
        StoreError: a model from other inputs is there, or a damaged one.
    """
    folder = ctx.root / "model"
    if not (folder / "model.json").exists():
        return False
    refuse_other(folder, _inputs(ctx), model.about(folder)["made_from"])
    return True


def run(ctx: Context, program: Trainer | None = None) -> None:
    """Leave a model in ``root/model``, trained unless there is one from the same inputs.

    Args:
        program: :func:`make_trainer` of this config and seed, to share what it compiles.

    Raises:
        StoreError: a model from other inputs is already there.
    """
    if done(ctx):
        return
    inputs = _inputs(ctx)
    checkpoint = ctx.config.model.checkpoint
    if ctx.config.model.kind == "text-to-image":
        if checkpoint is None:
            _train_text_to_image(ctx)
        model.adopt(ctx, inputs)
        return
    network = dit_of(ctx.config.model)
    if checkpoint is not None:
        shape, size = ctx.training_set.image_shape, ctx.conditions.size
        model.save(ctx, load_published(network, checkpoint, shape, size), inputs)
        return
    with stage(ctx.root, "train", ctx.mesh.size) as record:
        found = _train(ctx, inputs, program or make_trainer(ctx))
        record.samples = found.steps * ctx.config.train.batch
        record.extra = {"loss": round(found.loss, 5), "seed": ctx.seed}
        model.save(ctx, found.params, inputs)
        shutil.rmtree(ctx.root / "training", ignore_errors=True)


def _inputs(ctx: Context) -> dict[str, Any]:
    config, checkpoint = ctx.config, ctx.config.model.checkpoint
    unrelated = {"checkpoint", "dtype", "remat", "efficient_attention"}  # a trained model's alone
    if config.model.kind == "dit":
        unrelated.add("kind")
    network = config.model.model_dump(mode="json", exclude=unrelated)
    if checkpoint is not None:
        if not checkpoint.exists():
            raise UsageError(f"model.checkpoint={checkpoint}: no such file.")
        network["checkpoint"] = _content(checkpoint)
    text = {}
    if config.model.kind == "text-to-image" and checkpoint is None:
        text = {
            "captions": digest(ctx.training_set.raw.prompts),
            "autoencoder": digest(config.autoencoder.model_dump(mode="json")),
        }
    return text | {
        "data": ctx.training_set.fingerprint,
        "train": digest(config.train.model_dump(mode="json", exclude={"checkpoint_every"})),
        "model": digest(network),
        "schedule": digest(config.schedule.model_dump(mode="json")),
        "seed": ctx.seed,
    }


def _content(checkpoint: Path) -> str:
    """SHA-256 of a file; of a model folder, its configs and the sizes of its weights, which may be
    gigabytes (model.json holds the parameters' own hash)."""
    if checkpoint.is_file():
        return hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    files = sorted(file for file in checkpoint.rglob("*") if file.is_file())
    found = {
        str(file.relative_to(checkpoint)): file.read_text("utf-8")
        if file.suffix == ".json"
        else file.stat().st_size
        for file in files
    }
    return digest(found)


def _train_text_to_image(ctx: Context) -> None:
    """A small Stable Diffusion from scratch, in ``root/model``."""
    data, train, coding = ctx.training_set, ctx.config.train, ctx.config.autoencoder
    require_captions(data)
    rows = data.train_index
    settings = Settings(
        size=ctx.small,
        autoencoder=Fit(_rule(train, coding), coding.batch, train.ema),
        denoiser=Fit(_rule(train, train), train.batch, train.ema),
        kl=coding.kl,
        text_dropout=train.attribute_dropout,
        schedule=ctx.config.schedule.kind,
        schedule_steps=ctx.config.schedule.steps,
        prediction=ctx.config.schedule.prediction,
        scan=train.scan,
        checkpoint_every=train.checkpoint_every,
    )
    with stage(ctx.root, "train", ctx.mesh.size) as record:
        train_text_to_image(
            ctx.root / "model",
            np.asarray(data.raw.images[rows]),
            [data.raw.prompts[row] for row in rows],
            settings,
            ctx.seed,
            mesh=ctx.mesh,
        )
        record.samples = train.steps * train.batch + coding.steps * coding.batch
        record.extra = {"seed": ctx.seed}


def _rule(train: TrainConfig, pace: TrainConfig | AutoencoderConfig) -> Rule:
    """The optimiser of ``train``, for the steps and at the rates of ``pace``."""
    return Rule(
        pace.steps,
        pace.learning_rate,
        pace.adam_learning_rate,
        train.optimizer,
        train.warmup,
        train.weight_decay,
        train.clip,
    )


def make_trainer(ctx: Context) -> Trainer:
    """The training of a class-conditional model; it does not depend on the images."""
    train = ctx.config.train
    return trainer(
        eps_fn_of(ctx.network, *ctx.noise),
        ctx.schedule,
        optimizer(_rule(train, train)),
        blocks=ctx.conditions.blocks,
        attribute_dropout=train.attribute_dropout,
        ema=train.ema,
        key=jax.random.key(ctx.seed),
    )


def _train(ctx: Context, inputs: dict[str, Any], program: Trainer) -> Trained:
    train = ctx.config.train
    if train.batch % ctx.mesh.size:
        raise UsageError(
            f"train.batch={train.batch} must be a multiple of the {ctx.mesh.size} devices."
        )
    return checkpointed(
        program,
        create(
            dit_of(ctx.config.model), ctx.training_set.image_shape, ctx.conditions.size, ctx.seed
        ),
        TrainingBatches(ctx.training_set, batch=train.batch, seed=ctx.seed),
        Pace(train.steps, train.scan, train.checkpoint_every),
        folder=ctx.root / "training",
        inputs=inputs,
        mesh=ctx.mesh,
        title=f"train (seed {ctx.seed})",
        too_fast="train.learning_rate",
    )
