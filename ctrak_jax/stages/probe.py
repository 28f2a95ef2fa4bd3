"""Before the features of a text-to-image checkpoint: does it predict what its scheduler says?"""

from functools import partial

import jax
import numpy as np

from ctrak_jax import devices, hosts
from ctrak_jax.log import logger
from ctrak_jax.models.stable_diffusion import UNet
from ctrak_jax.models.stable_diffusion.probe import READINGS, better_reading, reading_losses
from ctrak_jax.run import model_file
from ctrak_jax.run.network import PlacedNetwork
from ctrak_jax.stages.context import Context

SAMPLES = 4


def run(ctx: Context, placed: PlacedNetwork) -> None:
    """Warn where the losses of one batch speak for another reading of the network; once per
    model."""
    if ctx.config.model.checkpoint is None or not isinstance(ctx.architecture.network, UNet):
        return
    key = model_file.key(ctx.folder.model, ctx.config.model.dtype)
    if not hosts.is_first() or ctx.folder.fresh("probe", key):
        return
    (network, params, specs), noise, mesh = placed, ctx.architecture.noise, ctx.mesh
    count = min(SAMPLES, len(ctx.dataset.train_index))
    rows = devices.padded(np.arange(count), count + -count % mesh.size)

    def losses(weights, batch):
        eps_fn = network.given(weights.others).eps_fn
        one = partial(reading_losses, eps_fn, *noise, weights.chosen)
        return jax.vmap(one, (0, 0, None))(*batch, jax.random.key(0))

    batch = ctx.inputs.samples(rows), ctx.inputs.conditions(rows)
    found = devices.over_samples(losses, mesh, specs)(devices.put(params, mesh, specs), batch)
    mean = np.asarray(found)[:count].mean(0)
    better = better_reading(mean, noise.prediction)
    if better is not None:
        logger.warning(
            "the network is read as one that predicts %s (loss %.2f), but its loss as one of %s is "
            "%.2f: probably its scheduler_config.json is not its own; set model.prediction: %s",
            *(noise.prediction, mean[READINGS.index(noise.prediction)]),
            *(better, mean[READINGS.index(better)], better),
        )
    ctx.folder.finish("probe", key)
