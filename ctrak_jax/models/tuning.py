"""The noise loss, and its minimum over a few parameters, equation (B.4); all others stay as they
are."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

from ctrak_jax.schedule import Schedule, add_noise, target
from ctrak_jax.typing import Array, Image, Params, PRNGKey, Timestep


class Tuned(NamedTuple):
    """Parameters after the last step, and the loss of every step."""

    params: Params
    losses: Float[Array, " step"]


def noise_loss(
    predict: Callable[[Image, Timestep], Image],
    schedule: Schedule,
    x0: Image,
    t: Timestep,
    noise: Image,
) -> Float[Array, ""]:
    """The mean squared error of a prediction (x_t, t) of one sample: a term of equations (B.1),
    (B.3), (B.4) and (B.6)."""
    prediction = predict(add_noise(schedule, x0, t, noise), t)
    return jnp.mean((target(schedule, x0, noise) - prediction) ** 2)


def tune(
    predict: Callable[[Params, Params, Image, Timestep, Int[Array, ""]], Image],
    chosen: Params,
    frozen: Params,
    schedule: Schedule,
    optimizer: optax.GradientTransformation,
    x0: Float[Array, "sample ..."],
    *,
    steps: int,
    batch: int,
    key: PRNGKey,
) -> Tuned:
    """Minimise the noise loss over ``chosen``, what alone the optimiser keeps a state of.

    Args:
        predict: (chosen, frozen, x_t, t, number of the sample) -> predicted noise of one sample.
        x0: training images or latents.
        batch: samples per step, drawn with replacement.
        key: every random number of step s comes from ``fold_in(key, s)``.
    """

    def sample_loss(chosen: Params, frozen: Params, index: Array, key: PRNGKey) -> Array:
        time_key, noise_key = jax.random.split(key)
        t = jax.random.randint(time_key, (), 0, schedule.steps)
        noise = jax.random.normal(noise_key, x0.shape[1:])
        return noise_loss(
            lambda x, t: predict(chosen, frozen, x, t, index), schedule, x0[index], t, noise
        )

    def batch_loss(chosen: Params, frozen: Params, key: PRNGKey) -> Array:
        index_key, sample_key = jax.random.split(key)
        indices = jax.random.randint(index_key, (batch,), 0, x0.shape[0])
        keys = jax.random.split(sample_key, batch)
        return jnp.mean(jax.vmap(sample_loss, (None, None, 0, 0))(chosen, frozen, indices, keys))

    @jax.jit
    def run(chosen: Params, frozen: Params) -> Tuned:
        def step(state: tuple[Params, optax.OptState], number: Array) -> Any:
            chosen, moments = state
            step_key = jax.random.fold_in(key, number)
            loss, gradient = jax.value_and_grad(batch_loss)(chosen, frozen, step_key)
            updates, moments = optimizer.update(gradient, moments, chosen)
            return (optax.apply_updates(chosen, updates), moments), loss

        state = chosen, optimizer.init(chosen)
        (chosen, _), losses = jax.lax.scan(step, state, jnp.arange(steps))
        return Tuned(chosen, losses)

    return run(chosen, frozen)
