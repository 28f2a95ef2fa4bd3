"""A network that is read as what it does not predict is found by its losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax import schedule as schedules
from ctrak_jax.models.stable_diffusion.probe import (
    READINGS,
    better_reading,
    probe_times,
    reading_losses,
)

SCHEDULE = schedules.scaled_linear()
X0 = jax.random.normal(jax.random.key(1), (4, 4, 2))


def network_of(what: str):
    """The exact output for one latent, with an error of .1."""

    def output(params, x, t, cond):
        signal, sigma = schedules.level(SCHEDULE, t)
        noise = (x - signal * X0) / sigma
        exact = {"eps": noise, "v": signal * noise - sigma * X0, "x0": X0}[what]
        return exact + 0.1

    return output


@pytest.mark.parametrize("truth", READINGS)
@pytest.mark.parametrize("reading", READINGS)
def test_the_true_reading_is_found_and_no_other(truth, reading):
    eps_fn = schedules.as_eps_fn(network_of(truth), SCHEDULE, reading)
    losses = jax.jit(
        lambda x0: reading_losses(
            eps_fn, SCHEDULE, reading, {}, x0, jnp.zeros(1), jax.random.key(0)
        )
    )(X0)
    assert losses[READINGS.index(truth)] < 0.03
    assert better_reading(losses, reading) == (None if truth == reading else truth)


def test_a_small_difference_is_no_reason_for_a_warning():
    assert better_reading(jnp.array([1.0, 0.8, 0.6]), "eps") is None
    assert better_reading(jnp.array([1.0, 0.4, 0.6]), "eps") == "v"
    assert better_reading(jnp.array([9.0, 2.0, 0.6]), "eps") is None


def test_a_network_that_says_nothing_speaks_for_no_reading():
    """Also where latents are small, so that zero is near every clean one."""
    losses = reading_losses(
        lambda _params, x, _t, _cond: jnp.zeros_like(x),
        *(SCHEDULE, "eps", {}, 0.1 * X0, jnp.zeros(1), jax.random.key(0)),
    )
    np.testing.assert_allclose(losses, 1.0, rtol=1e-5)
    assert better_reading(losses, "eps") is None


def test_the_timesteps_are_in_the_middle_of_the_noise():
    powers = SCHEDULE.signal[probe_times(SCHEDULE)] ** 2
    np.testing.assert_allclose(powers, [0.3, 0.5, 0.7], atol=0.01)
