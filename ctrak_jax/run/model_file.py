"""The model on disk: an Orbax checkpoint of the parameters and model.json beside it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from ctrak_jax import hosts
from ctrak_jax.attribution import by_name
from ctrak_jax.devices import parameter_spec, put
from ctrak_jax.errors import StoreError
from ctrak_jax.gradient import parameter_paths
from ctrak_jax.models import Denoiser
from ctrak_jax.models.architecture import Architecture
from ctrak_jax.models.dit import DiT
from ctrak_jax.models.pretrained import codecs_of, load_network
from ctrak_jax.models.stable_diffusion import ModelFiles
from ctrak_jax.run.keys import SETTINGS
from ctrak_jax.store.files import digest, read_json, write_atomically
from ctrak_jax.typing import Cond, Params

NETWORK = (*SETTINGS["network"], "checkpoint", "folder", "prediction", "lora")
"""What a network and its noise are made from, beside the parameters."""


def parameter_sha256(params: Params) -> str:
    """SHA-256 over the paths and float32 values of all parameters."""
    digest = hashlib.sha256()
    for path, leaf in zip(parameter_paths(params), jax.tree.leaves(params), strict=True):
        digest.update(path.encode())
        digest.update(np.asarray(leaf, np.float32).tobytes())
    return digest.hexdigest()


def save(
    folder: Path,
    params: Params,
    architecture: Mapping[str, Any],
    made_from: Mapping[str, Any],
) -> None:
    """Write a class-conditional model; model.json comes last, so that its presence means
    completeness."""
    with hosts.checkpointer() as checkpointer:
        checkpointer.save(folder.resolve(), hosts.savable(params), force=True)
    _describe(folder, params, {"architecture": architecture, "made_from": made_from})


def adopt(
    folder: Path, source: ModelFiles, architecture: Architecture, made_from: Mapping[str, Any]
) -> None:
    """Write model.json for the text-to-image model in ``source``."""
    params = load_network(source, architecture.compute, architecture.sample[0]).params
    hashes = [parameter_sha256(part.params) for part in codecs_of(source)]
    shapes = {
        "network": type(architecture.network).__name__,
        "folder": str(source.checkpoint),
        "latent": list(architecture.sample),
        "text": _shapes(architecture.condition),
    }
    about = {"architecture": shapes, "made_from": made_from, "codecs": digest(hashes)}
    _describe(folder, params, about)


def _shapes(condition: Cond) -> Any:
    """The shape of a condition, or of each of its arrays by name."""
    found = {name: list(leaf.shape) for name, leaf in by_name(condition).items()}
    return found.get("", found)


def _describe(folder: Path, params: Params, about: Mapping[str, Any]) -> None:
    found = {
        **about,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "sha256": parameter_sha256(params),
    }
    write_atomically(folder / "model.json", json.dumps(found, indent=2) + "\n")


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


def key(folder: Path, dtype: str) -> dict[str, str]:
    """What a prediction depends on: the parameters, and how a network computes with them."""
    said = about(folder)
    given = {name: value for name, value in said["made_from"].items() if name in NETWORK}
    if said.get("architecture", {}).get("network") == "UNet":
        given["gelu"] = "exact"  # earlier results are of diffusers' Flax class: by its tanh form
    return {"model": said["sha256"], "network": digest(given), "compute": dtype}


def load(folder: Path, source: ModelFiles, architecture: Architecture, mesh: Mesh) -> Denoiser:
    """Read a model, a text-to-image one from ``source``, and check its hash.

    Raises:
        StoreError: missing or damaged.
        UsageError: a folder of a text-to-image model is.
    """
    said = about(folder)["sha256"]
    if isinstance(architecture.network, DiT):
        where, params = folder, _restore(folder, architecture)
    else:
        where = source.checkpoint
        params = load_network(source, architecture.compute, architecture.sample[0]).params
    found = parameter_sha256(params)
    if found != said:
        raise StoreError(
            f"{where}: the parameters' sha256 is {found[:12]}, model.json says {said[:12]}; "
            f"delete {folder} and run `ctrak train` again."
        )
    specs = jax.tree.map(lambda leaf: parameter_spec(leaf.shape, mesh), params)
    return architecture.denoiser(put(params, mesh, specs), mesh)


def _restore(folder: Path, architecture: Architecture) -> Params:
    try:
        with hosts.checkpointer() as checkpointer:
            # Arrays of NumPy tell Orbax to restore into the memory of this process.
            like = jax.tree.map(lambda s: np.empty(s.shape, s.dtype), architecture.template)
            return checkpointer.restore(folder.resolve(), like)
    except Exception as error:  # Orbax raises many kinds for damaged files
        reason = str(error).partition("\n")[0]
        raise StoreError(
            f"{folder}: cannot be read ({reason}); delete it and run `ctrak train` again."
        ) from error
