"""Train the model, or take a published checkpoint: writes ``model/``."""

import hashlib
import shutil
from typing import Any

import jax

from ctrak_jax.data import TrainingBatches
from ctrak_jax.errors import UsageError
from ctrak_jax.log import stage
from ctrak_jax.models import create, load_published
from ctrak_jax.models.training import Trainer, optimizer, trainer
from ctrak_jax.stages import model
from ctrak_jax.stages.checkpointed import Pace, Trained, checkpointed, refuse_other
from ctrak_jax.stages.context import Context, digest


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


def run(ctx: Context) -> None:
    """Leave a model in ``root/model``, trained unless there is one from the same inputs.

    Raises:
        StoreError: a model from other inputs is already there.
    """
    if done(ctx):
        return
    inputs = _inputs(ctx)
    checkpoint = ctx.config.model.checkpoint
    if checkpoint is not None:
        model.save(
            ctx,
            load_published(
                ctx.network, checkpoint, ctx.training_set.image_shape, ctx.conditions.size
            ),
            inputs,
        )
        return
    with stage(ctx.root, "train", ctx.mesh.size) as record:
        found = _train(ctx, inputs)
        record.samples = found.steps * ctx.config.train.batch
        record.extra = {"loss": round(found.loss, 5), "seed": ctx.seed}
        model.save(ctx, found.params, inputs)
        shutil.rmtree(ctx.root / "training", ignore_errors=True)


def _inputs(ctx: Context) -> dict[str, Any]:
    config, checkpoint = ctx.config, ctx.config.model.checkpoint
    network = config.model.model_dump(mode="json", exclude={"checkpoint"})
    if checkpoint is not None:
        if not checkpoint.exists():
            raise UsageError(f"model.checkpoint={checkpoint}: no such file.")
        network["checkpoint"] = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    return {
        "data": ctx.training_set.fingerprint,
        "train": digest(config.train.model_dump(mode="json", exclude={"checkpoint_every"})),
        "model": digest(network),
        "schedule": digest(config.schedule.model_dump(mode="json")),
        "seed": ctx.seed,
    }


def _make_trainer(ctx: Context) -> Trainer:
    train = ctx.config.train
    rule = optimizer(
        train.optimizer,
        steps=train.steps,
        learning_rate=train.learning_rate,
        adam_learning_rate=train.adam_learning_rate,
        warmup=train.warmup,
        weight_decay=train.weight_decay,
        clip=train.clip,
    )
    return trainer(
        ctx.eps_fn,
        ctx.schedule,
        rule,
        blocks=ctx.conditions.blocks,
        attribute_dropout=train.attribute_dropout,
        ema=train.ema,
        key=jax.random.key(ctx.seed),
    )


def _train(ctx: Context, inputs: dict[str, Any]) -> Trained:
    train = ctx.config.train
    if train.batch % ctx.mesh.size:
        raise UsageError(
            f"train.batch={train.batch} must be a multiple of the {ctx.mesh.size} devices."
        )
    return checkpointed(
        _make_trainer(ctx),
        create(ctx.network, ctx.training_set.image_shape, ctx.conditions.size, ctx.seed),
        TrainingBatches(ctx.training_set, batch=train.batch, seed=ctx.seed),
        Pace(train.steps, train.scan, train.checkpoint_every),
        folder=ctx.root / "training",
        inputs=inputs,
        mesh=ctx.mesh,
        title=f"train (seed {ctx.seed})",
        too_fast="train.learning_rate",
    )
