"""Does a text-to-image checkpoint predict what its scheduler says? Asked before it is used."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from ctrak_jax import devices, hosts
from ctrak_jax.inputs.base import SampleInputs
from ctrak_jax.log import logger
from ctrak_jax.models.architecture import Architecture
from ctrak_jax.models.denoiser import Denoiser
from ctrak_jax.models.stable_diffusion import UNet
from ctrak_jax.models.stable_diffusion.probe import READINGS, better_reading, reading_losses
from ctrak_jax.run import model_file
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.stages.context import Context
from ctrak_jax.store.files import plain, read_json, write_atomically

SAMPLES = 4
FILE = "probe.json"


class Probed(NamedTuple):
    """A model, and samples that it is probed by.

    Attributes:
        folder: of the run, for the verdict.
        architecture: with the prediction that the network is read as.
        dtype: that it computes in.
        inputs: the samples and their conditions.
        samples: how many there are.
        load: reads the model.
    """

    folder: RunFolder
    architecture: Architecture
    dtype: str
    mesh: Mesh
    inputs: SampleInputs
    samples: int
    load: Callable[[], Denoiser]


def run(ctx: Context) -> None:
    """Probe the model of a run by its training samples."""
    if ctx.config.model.checkpoint is None or not isinstance(ctx.architecture.network, UNet):
        return
    if hosts.is_first():
        model, count = ctx.config.model, len(ctx.dataset.train_index)
        where = ctx.folder, ctx.architecture, model.dtype, ctx.mesh
        probe(Probed(*where, ctx.inputs, count, ctx.load))


def probe(probed: Probed) -> None:
    """Warn where the losses of one batch speak for another reading of the network. They are
    computed once per model, and the warning comes every time."""
    file = probed.folder.root / FILE
    key = plain(model_file.key(probed.folder.model, probed.dtype))
    found: dict[str, Any] = read_json(file, "featurize") if file.exists() else {}
    if found.get("made_from") != key:
        found = {"made_from": key, "losses": _losses(probed)}
        write_atomically(file, json.dumps(found, indent=1) + "\n")
    losses, taken = found["losses"], probed.architecture.noise.prediction
    better = better_reading(np.array([losses[name] for name in READINGS]), taken)
    if better is not None:
        logger.warning(
            "the network is read as one that predicts %s (loss %.2f), but its loss as one of %s is "
            "%.2f: probably its scheduler_config.json is not its own; set model.prediction: %s",
            *(taken, losses[taken], better, losses[better], better),
        )


def _losses(probed: Probed) -> dict[str, float]:
    """The mean loss of a few samples by every reading."""
    denoiser, noise, mesh = probed.load(), probed.architecture.noise, probed.mesh
    specs = jax.tree.map(lambda leaf: devices.parameter_spec(leaf.shape, mesh), denoiser.params)
    count = min(SAMPLES, probed.samples)
    rows = devices.padded(np.arange(count), count + -count % mesh.size)

    def losses(params, batch):
        one = partial(reading_losses, denoiser.eps_fn, *noise, params)
        return jax.vmap(one, (0, 0, None))(*batch, jax.random.key(0))

    batch = probed.inputs.samples(rows), probed.inputs.conditions(rows)
    found = np.asarray(devices.over_samples(losses, mesh, specs)(denoiser.params, batch))
    return dict(zip(READINGS, found[:count].mean(0).tolist(), strict=True))
