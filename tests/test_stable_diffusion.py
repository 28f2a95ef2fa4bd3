"""Stable Diffusion's denoiser: agreement with the published formulas, precision and memory."""

from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

pytest.importorskip("diffusers", reason="needs the extra diffusers")

from ctrak_jax import reward
from ctrak_jax import schedule as schedules
from ctrak_jax.gradient import flatten_samples, path_gradients, sample_gradient, select
from ctrak_jax.models.denoiser import Denoiser, denoiser_of
from ctrak_jax.models.stable_diffusion import Compute, load_unet
from ctrak_jax.trajectory import Path as States

FIXTURES = Path(__file__).parent / "fixtures"
SCHEDULE = schedules.scaled_linear()
LOSSES = ("dsm", "dps", "slider")


@cache
def reference() -> dict[str, np.ndarray]:
    return load_file(FIXTURES / "sd_reference.safetensors")


@cache
def model(compute: Compute = Compute()) -> Denoiser:
    network, params = load_unet(FIXTURES / "sd_unet", compute)
    return denoiser_of(network, params, SCHEDULE, "eps", remat=compute.remat)


def channels_last(array: np.ndarray) -> jax.Array:
    return jnp.asarray(np.moveaxis(array, -3, -1))


def by_sample(array: np.ndarray) -> jax.Array:
    return jnp.moveaxis(channels_last(array), 0, 1)


def times() -> jax.Array:
    return jnp.asarray(reference()["timesteps"], jnp.int32)


def relative(found, expected) -> float:
    return float(jnp.linalg.norm((found - expected).ravel()) / jnp.linalg.norm(expected.ravel()))


def cosines(found, expected) -> np.ndarray:
    norms = jnp.linalg.norm(found, axis=1) * jnp.linalg.norm(expected, axis=1)
    return np.asarray((found * expected).sum(1) / norms)


@cache
def gradients(
    compute: Compute = Compute(), form: str = "layers"
) -> dict[tuple[str, bool], jax.Array]:
    """(loss, normalised) -> per-sample gradients over attn2 [sample, param], by one program."""
    ref, network = reference(), model(compute)
    part = select(network.params, ("*attn2*",))

    def eps_fn(params, x, t, cond):
        return network.eps_fn(part.merge(params, part.others), x, t, cond)

    def layers_fn(params, taps, x, t, cond):
        return network.layers_fn(part.merge(params, part.others), taps, x, t, cond)

    def one(which, x0, x, cond, minus):
        losses = reward.dsm(SCHEDULE, x0), reward.dps(SCHEDULE, x0), reward.slider(minus, 7.5)

        def loss(step):
            return jax.lax.switch(which, [lambda each=each: each(step) for each in losses])

        path = States(x, times())
        if form == "layers":
            return path_gradients(loss, layers_fn, part.params, path, cond, normalise=[False, True])
        return [
            sample_gradient(loss, eps_fn, part.params, path, cond, normalise=normalise)
            for normalise in (False, True)
        ]

    samples = (
        channels_last(ref["x0"]),
        by_sample(ref["path_forward"]),
        jnp.asarray(ref["text"]),
        jnp.asarray(ref["text_minus"]),
    )
    found = jax.jit(jax.vmap(jax.vmap(one, (None, 0, 0, 0, 0)), (0, None, None, None, None)))(
        jnp.arange(3), *samples
    )
    return {
        (loss, normalised): flatten_samples(jax.tree.map(lambda leaf: leaf[i], sums))
        for i, loss in enumerate(LOSSES)
        for normalised, sums in zip((False, True), found, strict=True)
    }
