"""Train the model, or take a published checkpoint: writes ``model/``."""

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from ctrak_jax import hosts
from ctrak_jax import mesh as devices
from ctrak_jax.data import TrainingBatches
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.log import logger, meter, stage
from ctrak_jax.models import create, load_published
from ctrak_jax.models.denoiser import eps_fn_of
from ctrak_jax.models.training import Trainer, TrainState, optimizer, trainer
from ctrak_jax.stages import model
from ctrak_jax.stages.context import Context, digest, dit_of, read_json, write_atomically
from ctrak_jax.typing import Params


def done(ctx: Context) -> bool:
    """Is the model of these inputs in ``root/model``?

    Raises:
        StoreError: a model from other inputs is there, or a damaged one.
    """
    folder = ctx.root / "model"
    if not (folder / "model.json").exists():
        return False
    _refuse_other(folder, _inputs(ctx), model.about(folder)["made_from"])
    return True


def _refuse_other(folder: Path, inputs: dict[str, Any], made_from: dict[str, Any]) -> None:
    differing = sorted(k for k in inputs if made_from.get(k) != inputs[k])
    if differing:
        raise StoreError(
            f"{folder} was made from other settings ({', '.join(differing)} differ); use another "
            "--out, or delete the run to make it anew."
        )


def run(ctx: Context) -> None:
    """Leave a model in ``root/model``, trained unless there is one from the same inputs.

    Raises:
        StoreError: a model from other inputs is already there.
    """
    if done(ctx):
        return
    inputs = _inputs(ctx)
    checkpoint = ctx.config.model.checkpoint
    if ctx.config.model.kind == "text-to-image":
        model.adopt(ctx, inputs)
        return
    network = dit_of(ctx.config.model)
    if checkpoint is not None:
        shape, size = ctx.training_set.image_shape, ctx.conditions.size
        model.save(ctx, load_published(network, checkpoint, shape, size), inputs)
        return
    with stage(ctx.root, "train", ctx.mesh.size) as record:
        params, loss, steps = _train(ctx, inputs)
        record.samples = steps * ctx.config.train.batch
        record.extra = {"loss": round(loss, 5), "seed": ctx.seed}
        model.save(ctx, params, inputs)
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
    return {
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
        eps_fn_of(ctx.network, *ctx.noise),
        ctx.schedule,
        rule,
        blocks=ctx.conditions.blocks,
        attribute_dropout=train.attribute_dropout,
        ema=train.ema,
        key=jax.random.key(ctx.seed),
    )


def _claim(folder: Path, inputs: dict[str, Any]) -> None:
    """Mark the checkpoints' folder as made from ``inputs``, or refuse another's."""
    made_from = folder / "inputs.json"
    if made_from.exists():
        _refuse_other(folder, inputs, read_json(made_from, "train"))
    elif folder.exists():
        raise StoreError(f"{made_from} is missing; delete {folder} to train from the start.")
    write_atomically(made_from, json.dumps(inputs))


def _train(ctx: Context, inputs: dict[str, Any]) -> tuple[Params, float, int]:
    """Train to the end, from the last checkpoint where there is one: the averaged parameters, the
    last loss, the steps done here."""
    train = ctx.config.train
    if train.batch % ctx.mesh.size:
        raise UsageError(
            f"train.batch={train.batch} must be a multiple of the {ctx.mesh.size} devices."
        )
    maker = _make_trainer(ctx)
    network = dit_of(ctx.config.model)
    params = create(network, ctx.training_set.image_shape, ctx.conditions.size, ctx.seed)
    # Each part of the state needs buffers of its own: the training call donates them.
    state = jax.tree.map(jnp.copy, maker.init(params))
    folder = (ctx.root / "training").resolve()
    _claim(folder, inputs)
    options = ocp.CheckpointManagerOptions(
        max_to_keep=1, create=False, multiprocessing_options=hosts.checkpoints()
    )
    loss = float("nan")
    batches = TrainingBatches(ctx.training_set, batch=train.batch, seed=ctx.seed)

    def stretch(first: int) -> Any:
        return batches(first, min(train.scan, train.steps - first))

    with (
        ocp.CheckpointManager(folder, options=options) as manager,
        ThreadPoolExecutor(1) as ahead,
    ):
        latest = manager.latest_step()
        if latest is not None:
            state = _restore(manager, latest, state, folder)
            logger.info("training goes on from step %d", latest)
        begun = step = latest or 0
        state = devices.put_replicated(state, ctx.mesh)
        following = ahead.submit(stretch, step) if step < train.steps else None
        with meter(f"train (seed {ctx.seed})", train.steps, step) as bar:
            while following is not None:
                batch = devices.put_batches(following.result(), ctx.mesh)
                count = batch.x0.shape[0]
                state, mean_loss = maker.run(state, batch.x0, batch.cond)
                step += count
                following = ahead.submit(stretch, step) if step < train.steps else None
                loss = float(mean_loss)
                if not jnp.isfinite(loss):
                    raise StoreError(
                        f"training loss became {loss} before step {step}; lower "
                        "train.learning_rate."
                    )
                bar.advance(count)
                if step % train.checkpoint_every == 0 and step < train.steps:
                    manager.save(step, args=ocp.args.StandardSave(hosts.savable(state)))
        manager.wait_until_finished()
    return state.average, loss, step - begun


def _restore(
    manager: ocp.CheckpointManager, step: int, state: TrainState, folder: Path
) -> TrainState:
    try:
        return cast(TrainState, manager.restore(step, args=ocp.args.StandardRestore(state)))
    except Exception as error:  # Orbax raises many kinds for damaged files
        reason = str(error).partition("\n")[0]
        raise StoreError(
            f"{folder}/{step}: the training checkpoint cannot be read ({reason}); delete "
            f"{folder} to train from the start."
        ) from error
