"""Tune: train a LoRA with captions on a text-to-image model, and write it as diffusers does."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from ctrak_jax import devices
from ctrak_jax.data import ShuffledRows
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.gradient import select
from ctrak_jax.inputs.latents import require_captions
from ctrak_jax.log import logger, stage
from ctrak_jax.models.architecture import model_files_of
from ctrak_jax.models.checkpointed import Chunking, checkpointed, refuse_other
from ctrak_jax.models.denoiser import denoiser_of
from ctrak_jax.models.lora import PATTERN, adapters_in, add_adapters
from ctrak_jax.models.lora.files import DIFFUSERS
from ctrak_jax.models.lora.written import lora_file
from ctrak_jax.models.pretrained import Network, load_network, pipeline_of
from ctrak_jax.models.stable_diffusion import CLIPText, UNet, load_codecs
from ctrak_jax.models.stable_diffusion.fit import DenoiserParams, adapter_trainer, denoiser_loss
from ctrak_jax.models.stable_diffusion.source.files import PIPELINES
from ctrak_jax.models.training import OptimizerSpec, optimizer
from ctrak_jax.run import model_file
from ctrak_jax.run.keys import settings_of
from ctrak_jax.stages.context import Context
from ctrak_jax.store.files import digest, plain, read_json, write_atomically
from ctrak_jax.typing import Params

FILE, ABOUT = DIFFUSERS[0], "tune.json"
TEXT = ("*self_attn*",)
"""The attention of CLIP's text encoder."""


def require_base(config: Any) -> None:
    """Refuse a config without a model that a LoRA can be trained on.

    Raises:
        UsageError: it has none, one with LoRAs already, one of an unknown kind, or one whose text
            encoder takes no adapters, which ``tune.text_encoder`` asks for.
    """
    model = config.model
    if model.kind != "text-to-image" or model.checkpoint is None:
        raise UsageError(
            "tune trains a LoRA on a text-to-image model.checkpoint, there is none; give a "
            "published model's folder, or that of an earlier run: --model.kind text-to-image "
            "--model.checkpoint runs/text-to-image/model."
        )
    if model.lora:
        raise UsageError(
            f"model.lora={list(map(str, model.lora))}: tune trains a LoRA on the model alone; "
            "leave it out here (`ctrak run` takes it), or merge it into the model."
        )
    name = pipeline_of(model_files_of(model, model.checkpoint))
    if config.tune.text_encoder and name not in PIPELINES:
        raise UsageError(
            f"tune.text_encoder: true is for Stable Diffusion 1.x and 2.x, {model.checkpoint} is "
            f"for {name!r}; leave it out, and the network alone gets adapters."
        )


def run(ctx: Context) -> None:
    """Leave a LoRA, trained unless there is one from the same inputs; an interrupted training
    resumes.

    Raises:
        UsageError: the data set has no captions, or no layer can be adapted as configured.
        StoreError: a LoRA from other inputs is there, or the training went astray.
    """
    require_captions(ctx.training_set)
    root, tune = ctx.folder.root, ctx.config.tune
    made_from = key(ctx)
    if (root / ABOUT).exists() and (root / FILE).exists():
        refuse_other(root, made_from, read_json(root / ABOUT, "tune")["made_from"])
        return
    if tune.batch % ctx.mesh.size:
        raise UsageError(
            f"tune.batch={tune.batch} must be a multiple of the {ctx.mesh.size} devices."
        )
    network, text, params = _adapted(ctx)
    part, architecture = select(params, (PATTERN,)), ctx.architecture
    part = part._replace(others=devices.put_replicated(part.others, ctx.mesh))
    denoiser = denoiser_of(network, params.unet, *architecture.noise, architecture.compute)
    trainer = adapter_trainer(
        denoiser_loss(
            denoiser.eps_fn,
            (lambda _, condition: condition) if text is None else text.apply,
            architecture.schedule,
            empty=ctx.inputs.null if text is None else np.asarray(text.tokens("")),
            text_dropout=tune.condition_dropout,
        ),
        part,
        optimizer(
            OptimizerSpec(
                tune.steps, tune.learning_rate, 0.0, "adamw", warmup=max(tune.steps // 10, 1)
            )
        ),
    )
    with stage(root, "tune", ctx.mesh.size) as record:
        found = checkpointed(
            trainer,
            part.params,
            _batches(ctx, text),
            Chunking(tune.steps, tune.scan, tune.checkpoint_every),
            key=jax.random.key(ctx.seed),
            folder=root / "tuning",
            inputs=made_from,
            mesh=ctx.mesh,
            title=f"tune (seed {ctx.seed})",
            too_fast="tune.learning_rate",
        )
        record.samples = found.steps * tune.batch
        record.extra = {"loss": round(found.loss, 5), "seed": ctx.seed}
        _write(ctx, found.params, made_from, found.loss)
    shutil.rmtree(root / "tuning", ignore_errors=True)


def key(ctx: Context) -> dict[str, Any]:
    """What a LoRA depends on."""
    return plain(
        {
            **ctx.inputs_of(ctx.training_set).key,
            **model_file.key(ctx.folder.model, ctx.config.model.dtype),
            "codecs": model_file.about(ctx.folder.model)["codecs"],
            "dataset": ctx.training_set.fingerprint,
            "captions": digest(ctx.training_set.captions),
            "seed": ctx.seed,
            **settings_of(ctx.config, "tuned LoRA"),
        }
    )


def _adapted(ctx: Context) -> tuple[Network, CLIPText | None, DenoiserParams]:
    """Both networks with fresh adapters, and all their parameters. There is no text encoder where
    it gets no adapters: its texts are encoded already."""
    tune, files, architecture = ctx.config.tune, ctx.model_source, ctx.architecture
    found = load_network(files, architecture.compute, architecture.sample[0])
    rank, scale = tune.rank, (tune.alpha or tune.rank) / tune.rank
    keys = jax.random.split(jax.random.fold_in(jax.random.key(ctx.seed), 1), 2)
    of_network = add_adapters(found.params, tune.include, rank, keys[0])
    network = replace(found.network, adapters=adapters_in(of_network, scale))
    if not tune.text_encoder:
        return network, None, DenoiserParams(of_network, {})
    text = load_codecs(files).text
    of_text = add_adapters(text.params, TEXT, rank, keys[1])
    words = replace(text.network, adapters=adapters_in(of_text, scale))
    return network, words, DenoiserParams(of_network, of_text)


def _batches(ctx: Context, text: CLIPText | None) -> Callable[[int, int], tuple[np.ndarray, Any]]:
    """Latents [step, batch, h, w, c] of steps from one on, and their texts, arrays [step, batch,
    ...]: tokens, or conditions where there is no text encoder."""
    data, inputs = ctx.training_set, ctx.inputs_of(ctx.training_set)
    texts = inputs.conditions if text is None else _tokens(ctx, text)
    shuffled = ShuffledRows(len(data.train_index), batch=ctx.config.tune.batch, seed=ctx.seed)

    def read(first: int, count: int) -> tuple[np.ndarray, Any]:
        rows = shuffled(first, count)
        flat = inputs.samples(rows.reshape(-1)), texts(rows.reshape(-1))
        return jax.tree.map(lambda leaf: leaf.reshape(*rows.shape, *leaf.shape[1:]), flat)

    return read


def _tokens(ctx: Context, text: CLIPText) -> Callable[[np.ndarray], np.ndarray]:
    """Rows of training images -> the tokens of their captions."""
    data = ctx.training_set
    captions = np.asarray([data.captions[index] for index in data.train_index])
    different, which = np.unique(captions, return_inverse=True)
    tokens = np.stack([text.tokens(str(caption)) for caption in different])
    return lambda rows: tokens[which[rows]]


def _write(ctx: Context, params: Params, made_from: dict[str, Any], loss: float) -> None:
    """The file, then what is said of it."""
    tune, root = ctx.config.tune, ctx.folder.root
    found = {path: np.asarray(value) for path, value in params.items()}
    if not all(np.isfinite(value).all() for value in found.values()):
        raise StoreError(
            f"{root / FILE}: the LoRA is not finite after the last step; lower tune.learning_rate."
        )
    content = lora_file(
        {"unet": _below("unet/", found), "text": _below("text/", found)},
        tune.rank,
        float(tune.alpha or tune.rank),
        "unet" if isinstance(ctx.architecture.network, UNet) else "transformer",
    )
    write_atomically(root / FILE, content)
    about = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "parameters": sum(value.size for value in found.values()),
        "layers": len(found) // 2,
        "images": len(ctx.training_set.train_index),
        "loss": round(loss, 5),
        "seed": ctx.seed,
        "tune": ctx.config.tune.model_dump(mode="json"),
        "made_from": made_from,
    }
    write_atomically(root / ABOUT, json.dumps(about, indent=2) + "\n")
    logger.info("%s: rank %d on %d layers", root / FILE, tune.rank, len(found) // 2)


def _below(place: str, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {path.removeprefix(place): v for path, v in found.items() if path.startswith(place)}
