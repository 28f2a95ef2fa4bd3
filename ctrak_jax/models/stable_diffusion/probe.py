"""Does a network predict what its scheduler's file says? The losses of one sample by every reading.

A velocity that is read as a noise raises no error: every number after it is wrong. The loss of what
the network was trained on is lower by far.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ctrak_jax.schedule import Prediction, Schedule, add_noise, level
from ctrak_jax.typing import Array, Cond, EpsFn, Image, Params, PRNGKey, Timestep

READINGS: tuple[Prediction, ...] = ("eps", "v", "x0")
CLEARLY = 0.5
"""Another reading is believed where its loss is below this share of the one in use, and of that of
a network that says nothing."""
LEVELS = (0.3, 0.5, 0.7)
"""Signal powers that the timesteps of the probe are nearest to."""


def probe_times(schedule: Schedule) -> np.ndarray:
    """The timesteps of the probe: those of half signal and half noise, about."""
    powers = np.asarray(schedule.signal) ** 2
    return np.array([np.argmin(np.abs(powers - power)) for power in LEVELS], np.int32)


def reading_losses(
    eps_fn: EpsFn,
    schedule: Schedule,
    prediction: Prediction,
    params: Params,
    x0: Image,
    cond: Cond,
    key: PRNGKey,
) -> Float[Array, " reading"]:
    """The mean squared error of a network's output, taken as each of :data:`READINGS`, over the
    mean square of what it then should be: 1 for a network that says nothing.

    Args:
        eps_fn: its output as a noise.
        schedule: the noise levels.
        prediction: what it was taken to predict for that.
        params: the first argument of ``eps_fn``.
        x0: one latent.
        cond: its condition.
        key: of the noise.
    """

    def at(t: Timestep) -> Float[Array, " reading"]:
        noise = jax.random.normal(jax.random.fold_in(key, t), x0.shape)
        signal, sigma = level(schedule, t)
        x = add_noise(schedule, x0, t, noise)
        eps = eps_fn(params, x, t, cond)
        outputs = {
            "eps": eps,
            "v": (eps - sigma * x) / signal,
            "x0": (x - sigma * eps) / signal,
        }
        targets = {"eps": noise, "v": signal * noise - sigma * x0, "x0": x0}
        output = outputs[prediction]
        return jnp.stack(
            [jnp.mean((output - targets[n]) ** 2) / jnp.mean(targets[n] ** 2) for n in READINGS]
        )

    return jax.vmap(at)(jnp.asarray(probe_times(schedule))).mean(0)


def better_reading(losses: Float[Array, " reading"], prediction: Prediction) -> Prediction | None:
    """The reading that a network's losses speak for, where they speak clearly against the one in
    use."""
    found = dict(zip(READINGS, np.asarray(losses).tolist(), strict=True))
    best = min(READINGS, key=lambda name: found[name])
    clear = found[best] < CLEARLY * min(found[prediction], 1.0)
    return best if best != prediction and clear else None
