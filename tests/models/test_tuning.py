"""The noise loss of one sample."""

import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax import schedule as schedules
from ctrak_jax.models.tuning import noise_loss

RANDOM = np.random.default_rng(0)
X0, NOISE = (jnp.asarray(RANDOM.normal(size=(2, 2, 1)), jnp.float32) for _ in range(2))


@pytest.mark.parametrize(
    ("schedule", "velocity"), [(schedules.linear(), 0.0), (schedules.rectified_flow(), 1.0)]
)
def test_the_loss_is_the_distance_from_what_the_schedule_predicts(schedule, velocity):
    """Zero for the noise, or for the velocity of a rectified flow; else the mean square of what is
    added. The state is that of the timestep."""
    states = []

    def predict(x, t):
        states.append((x, t))
        return NOISE - velocity * X0 + jnp.asarray([3.0, -3.0])[:, None, None]

    assert float(noise_loss(predict, schedule, X0, jnp.int32(400), NOISE)) == pytest.approx(9.0)
    ((state, t),) = states
    signal, sigma = schedule.signal[400], schedule.noise[400]
    np.testing.assert_allclose(state, signal * X0 + sigma * NOISE, rtol=1e-6)
    assert int(t) == 400
