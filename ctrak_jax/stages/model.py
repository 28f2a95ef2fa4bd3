"""The model on disk: an Orbax checkpoint of the parameters and model.json beside it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ctrak_jax import hosts
from ctrak_jax.devices import parameter_spec, put
from ctrak_jax.errors import StoreError
from ctrak_jax.gradient import parameter_paths
from ctrak_jax.models import Denoiser, create
from ctrak_jax.models.stable_diffusion import UNet, load_codecs, load_unet
from ctrak_jax.stages.context import Context, dit_of
from ctrak_jax.store.files import digest, read_json, write_atomically
from ctrak_jax.typing import Params


def parameter_sha256(params: Params) -> str:
    """SHA-256 over the paths and float32 values of all parameters."""
    digest = hashlib.sha256()
    for path, leaf in zip(parameter_paths(params), jax.tree.leaves(params), strict=True):
        digest.update(path.encode())
        digest.update(np.asarray(leaf, np.float32).tobytes())
    return digest.hexdigest()


def save(ctx: Context, params: Params, made_from: Mapping[str, Any]) -> None:
    """Write a class-conditional model to ``root/model``; model.json comes last, so that its
    presence means completeness."""
    with hosts.checkpointer() as checkpointer:
        checkpointer.save((ctx.root / "model").resolve(), hosts.savable(params), force=True)
    network = dit_of(ctx.config.model)
    architecture = {
        "network": "DiT",
        "width": network.width,
        "depth": network.depth,
        "heads": network.heads,
        "patch": network.patch,
        "condition": {k: list(v) for k, v in ctx.conditions.vocabulary.items()},
        "image": list(ctx.dataset.image_shape),
    }
    _describe(ctx, params, {"architecture": architecture, "made_from": made_from})


def adopt(ctx: Context, made_from: Mapping[str, Any]) -> None:
    """Write model.json for the text-to-image model in ``ctx.model_folder``."""
    folder = ctx.model_folder
    params = load_unet(folder / "unet", ctx.compute).params
    codecs = load_codecs(folder)
    hashes = [parameter_sha256(part.params) for part in codecs]
    architecture = {
        "network": "UNet",
        "folder": str(folder),
        "latent": list(ctx.shapes.sample),
        "text": list(ctx.shapes.condition),
    }
    about = {"architecture": architecture, "made_from": made_from, "codecs": digest(hashes)}
    _describe(ctx, params, about)


def _describe(ctx: Context, params: Params, about: Mapping[str, Any]) -> None:
    found = {
        **about,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "sha256": parameter_sha256(params),
    }
    write_atomically(ctx.root / "model" / "model.json", json.dumps(found, indent=2) + "\n")


def about(folder: Path) -> dict[str, Any]:
    """What model.json says of the model in ``folder``.

    Raises:
        StoreError: missing or damaged.
    """
    file = folder / "model.json"
    found = read_json(file, "train")
    lacking = {"parameters", "sha256", "made_from"} - set(found if isinstance(found, dict) else ())
    if lacking:
        raise StoreError(
            f"{file} is damaged (lacks {', '.join(sorted(lacking))}); delete {folder} and run "
            "`ctrak train` again."
        )
    return found


def template(ctx: Context) -> Params:
    """The parameters' shapes and dtypes."""
    network = ctx.network
    if isinstance(network, UNet):
        return jax.eval_shape(network.init, jax.random.key(0))
    return jax.eval_shape(lambda: create(network, ctx.dataset.image_shape, ctx.conditions.size, 0))


def load(ctx: Context) -> Denoiser:
    """Read the model and check its hash.

    Raises:
        StoreError: missing or damaged. UsageError: a folder of a text-to-image model is.
    """
    said = about(ctx.root / "model")["sha256"]
    if isinstance(ctx.network, UNet):
        folder, params = ctx.model_folder, load_unet(ctx.model_folder / "unet", ctx.compute).params
    else:
        folder, params = ctx.root / "model", _restore(ctx)
    found = parameter_sha256(params)
    if found != said:
        raise StoreError(
            f"{folder}: the parameters' sha256 is {found[:12]}, model.json says "
            f"{said[:12]}; delete {ctx.root / 'model'} and run `ctrak train` again."
        )
    specs = jax.tree.map(lambda leaf: parameter_spec(leaf.shape, ctx.mesh), params)
    return ctx.denoiser(put(params, ctx.mesh, specs))


def _restore(ctx: Context) -> Params:
    folder = ctx.root / "model"
    try:
        with hosts.checkpointer() as checkpointer:
            return checkpointer.restore(folder.resolve(), _on_host(template(ctx)))
    except Exception as error:  # Orbax raises many kinds for damaged files
        reason = str(error).partition("\n")[0]
        raise StoreError(
            f"{folder}: cannot be read ({reason}); delete it and run `ctrak train` again."
        ) from error


def _on_host(shapes: Params) -> Params:
    """What tells Orbax to restore into the memory of this process: arrays of NumPy."""
    return jax.tree.map(lambda s: np.empty(s.shape, s.dtype), shapes)


def sha256(ctx: Context) -> str:
    """The hash in model.json: what everything downstream is keyed to."""
    return about(ctx.root / "model")["sha256"]


def key(ctx: Context) -> dict[str, str]:
    """What a prediction depends on: the parameters, and how a network computes with them."""
    said = about(ctx.root / "model")
    return {
        "model": said["sha256"],
        "network": said["made_from"]["model"],
        "compute": ctx.config.model.dtype,
    }
