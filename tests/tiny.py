"""Small things that several tests need."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ctrak_jax import schedule as schedules
from ctrak_jax.models import DiT, create
from ctrak_jax.models.denoiser import eps_fn_of, layers_fn_of
from ctrak_jax.schedule import Schedule
from ctrak_jax.trajectory import Path, forward_path, grid
from ctrak_jax.typing import EpsFn, LayersFn, Params

SHAPE = (8, 8, 3)
COND = 4


class Tiny(NamedTuple):
    eps_fn: EpsFn
    layers_fn: LayersFn
    params: Params
    schedule: Schedule
    x0: jax.Array
    cond: jax.Array
    paths: Path


def random_params(network: DiT, shape: tuple[int, int, int], cond: int, seed: int = 0) -> Params:
    """Random weights everywhere: adaLN-zero would start with a network that is zero."""
    params = create(network, shape, cond, seed)
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    noisy = [
        leaf + 0.1 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(structure, noisy)


@cache
def make_tiny(samples: int = 3) -> Tiny:
    network = DiT(width=16, depth=1, heads=2, patch=4)
    schedule = schedules.linear()
    x0 = jax.random.uniform(jax.random.key(5), (samples, *SHAPE), minval=-1.0)
    cond = jnp.asarray(np.eye(COND, dtype=np.float32)[np.arange(samples) % COND])
    keys = jax.random.split(jax.random.key(6), samples)
    times = grid().recorded
    paths = jax.vmap(lambda x, k: forward_path(schedule, x, times, k))(x0, keys)
    return Tiny(
        eps_fn_of(network, schedule, "eps"),
        layers_fn_of(network, schedule, "eps"),
        random_params(network, SHAPE, COND),
        schedule,
        x0,
        cond,
        paths,
    )
