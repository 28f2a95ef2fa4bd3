"""Does a text-to-image checkpoint predict what its scheduler says? Asked before it is used."""

import json
from functools import partial
from typing import Any

import jax
import numpy as np

from ctrak_jax import devices, hosts
from ctrak_jax.log import logger
from ctrak_jax.models.stable_diffusion import UNet
from ctrak_jax.models.stable_diffusion.probe import READINGS, better_reading, reading_losses
from ctrak_jax.run import model_file
from ctrak_jax.stages.context import Context
from ctrak_jax.store.files import plain, read_json, write_atomically

SAMPLES = 4
FILE = "probe.json"


def run(ctx: Context) -> None:
    """Warn where the losses of one batch speak for another reading of the network. They are
    computed once per model, and the warning comes every time."""
    if ctx.config.model.checkpoint is None or not isinstance(ctx.architecture.network, UNet):
        return
    if not hosts.is_first():
        return
    file = ctx.folder.root / FILE
    key = plain(model_file.key(ctx.folder.model, ctx.config.model.dtype))
    found: dict[str, Any] = read_json(file, "featurize") if file.exists() else {}
    if found.get("made_from") != key:
        found = {"made_from": key, "losses": _losses(ctx)}
        write_atomically(file, json.dumps(found, indent=1) + "\n")
    losses, taken = found["losses"], ctx.architecture.noise.prediction
    better = better_reading(np.array([losses[name] for name in READINGS]), taken)
    if better is not None:
        logger.warning(
            "the network is read as one that predicts %s (loss %.2f), but its loss as one of %s is "
            "%.2f: probably its scheduler_config.json is not its own; set model.prediction: %s",
            *(taken, losses[taken], better, losses[better], better),
        )


def _losses(ctx: Context) -> dict[str, float]:
    """The mean loss of a few training samples by every reading."""
    denoiser, noise, mesh = ctx.load(), ctx.architecture.noise, ctx.mesh
    specs = jax.tree.map(lambda leaf: devices.parameter_spec(leaf.shape, mesh), denoiser.params)
    count = min(SAMPLES, len(ctx.dataset.train_index))
    rows = devices.padded(np.arange(count), count + -count % mesh.size)

    def losses(params, batch):
        one = partial(reading_losses, denoiser.eps_fn, *noise, params)
        return jax.vmap(one, (0, 0, None))(*batch, jax.random.key(0))

    batch = ctx.inputs.samples(rows), ctx.inputs.conditions(rows)
    found = np.asarray(devices.over_samples(losses, mesh, specs)(denoiser.params, batch))
    return dict(zip(READINGS, found[:count].mean(0).tolist(), strict=True))
