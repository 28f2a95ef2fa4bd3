r"""Deterministic paths between images and noise (method.md, section 4), for ONE sample.

On a grid :math:`0 = t_0 < t_1 < \dots < t_S`, with :math:`\epsilon_j = \epsilon(x_{t_j}, t_j)`,

.. math::
    x_{t_{j'}} = \sqrt{\bar\alpha_{t_{j'}}} \hat x_0(x_{t_j}) +
        \sqrt{1-\bar\alpha_{t_{j'}} - \sigma^2} \epsilon_j + \sigma z                     \tag{4.1}

leads up (inversion, :math:`j' = j+1`) or down (sampling, :math:`j' = j-1`). With a the share of
the image and b that of the noise, at the noisier level h and the cleaner one l of the two,

.. math::
    \sigma^2 = \eta^2 b_l^2 \Bigl(1 - \frac{a_h^2 b_l^2}{a_l^2 b_h^2}\Bigr)               \tag{4.2}

so that :math:`\eta = 0` is the deterministic map (Song et al. 2021). Guidance replaces the
prediction by

.. math::
    \tilde\epsilon = \epsilon(x, c') + g (\epsilon(x, c) - \epsilon(x, c'))               \tag{4.3}

against a negative condition :math:`c'`: the null, another sample's, a given one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ctrak_jax.schedule import Schedule, add_noise, level, posterior_mean, split
from ctrak_jax.typing import Array, Cond, EpsFn, Image, Params, PRNGKey, Timestep


class Grid(NamedTuple):
    """The timesteps ``times[j]``, j = 0..S, of a trajectory. Of its states at ``times[every],
    times[2 every], ...`` short of the last the first ``kept`` are recorded."""

    times: np.ndarray
    every: int
    kept: int

    @property
    def recorded(self) -> np.ndarray:
        """The attribution timesteps, ascending: int [time]."""
        return self.times[self.every : -1 : self.every][: self.kept]


class Guidance(NamedTuple):
    """Scale g and the negative condition c' of equation (4.3)."""

    scale: float
    negative: Cond


class Path(NamedTuple):
    """States of one sample along its trajectory, timesteps ascending."""

    x: Float[Array, "time ..."]
    t: Int[Array, " time"]


def grid(
    schedule_steps: int = 1000, steps: int = 50, every: int = 5, kept: int | None = None
) -> Grid:
    """``times[j] = floor((schedule_steps - 1) j / steps)``: 0, 19, 39, ..., 999 by default.

    Args:
        schedule_steps: timesteps of the schedule.
        steps: steps of the trajectory.
        every: how many steps lie between two recorded states; a divisor of ``steps``.
        kept: how many states are recorded, those of the least noise; ``None`` for all.

    Raises:
        ValueError: no state would be recorded, or fewer than ``kept``.
    """
    if steps < 2 or every < 1 or steps % every or steps // every < 2:
        raise ValueError(
            f"a trajectory of steps={steps} recorded every {every} steps keeps no state, or an "
            "uneven number of steps between two; use a divisor of steps below it, such as 5 of 50."
        )
    # The small term keeps exact products from falling below their integer in floating point.
    times = np.floor((schedule_steps - 1) * np.arange(steps + 1) / steps + 1e-6).astype(np.int32)
    most = steps // every - 1
    if kept is not None and not 1 <= kept <= most:
        raise ValueError(f"kept={kept} of the {most} recorded states; use one of 1 to {most}.")
    return Grid(times, every, most if kept is None else kept)


def under_both(
    eps_fn: EpsFn, params: Params, x: Image, t: Timestep, cond: Cond, other: Cond
) -> Float[Array, "2 ..."]:
    """The predictions under two conditions by one call: the network sees a batch axis of two."""
    pair = jax.tree.map(lambda a, b: jnp.stack([a, b]), cond, other)
    return jax.vmap(eps_fn, (None, None, None, 0))(params, x, t, pair)


def guided(eps_fn: EpsFn, guidance: Guidance | None) -> EpsFn:
    """The prediction of equation (4.3); ``None`` is the plain prediction (one network call)."""
    if guidance is None:
        return eps_fn

    def eps(params: Params, x: Image, t: Timestep, cond: Cond) -> Image:
        wanted, other = under_both(eps_fn, params, x, t, cond, guidance.negative)
        return other + guidance.scale * (wanted - other)

    return eps


def ddim_step(
    schedule: Schedule,
    x: Image,
    eps: Image,
    t: Timestep,
    t_next: Timestep,
    *,
    eta: float = 0.0,
    noise: Image | None = None,
) -> Image:
    """Equation (4.1) from ``t`` to ``t_next`` in either direction.

    Args:
        x: the state at ``t``.
        eps: the prediction there.
        eta: the share of fresh noise in equation (4.2).
        noise: unit normal, like ``x``; needed where eta > 0.
    """
    x0_hat = posterior_mean(schedule, x, t, eps)
    if noise is None:
        signal, sigma = split(schedule, t_next)
        return signal * x0_hat + sigma * eps
    signal, sigma = level(schedule, t_next)
    high = level(schedule, jnp.maximum(t, t_next))
    low = level(schedule, jnp.minimum(t, t_next))
    kept = (high.signal * low.noise) / (low.signal * high.noise)
    variance = (eta * low.noise) ** 2 * (1.0 - kept**2)
    direction = jnp.sqrt(jnp.maximum(sigma**2 - variance, 0.0))
    predicted = eps + x0_hat if schedule.velocity else eps
    return signal * x0_hat + direction * predicted + jnp.sqrt(variance) * noise


def forward_path(schedule: Schedule, x0: Image, times: Int[Array, " time"], key: PRNGKey) -> Path:
    """Forward noising with ONE noise per (sample, timestep): the noise of t comes from
    ``fold_in(key, t)``, so that neither batches nor the choice of timesteps can change it."""
    times = jnp.asarray(times, jnp.int32)

    def state(t: Timestep) -> Image:
        noise = jax.random.normal(jax.random.fold_in(key, t), x0.shape, x0.dtype)
        return add_noise(schedule, x0, t, noise)

    return Path(jax.vmap(state)(times), times)


def _walk(
    eps_fn: EpsFn,
    params: Params,
    schedule: Schedule,
    x: Image,
    cond: Cond,
    times: np.ndarray,
    every: int,
    eta: float,
    key: PRNGKey | None,
) -> Float[Array, "segment ..."]:
    """Walk along ``times``: the states after every so many steps."""
    if eta > 0.0 and key is None:
        raise ValueError(f"eta={eta} adds noise to every step: pass a key, or eta=0.")

    def step(x: Image, pair: Int[Array, "2"]) -> tuple[Image, None]:
        t, t_next = pair[0], pair[1]
        noise = None
        if eta > 0.0 and key is not None:
            noise = jax.random.normal(jax.random.fold_in(key, t_next), x.shape, x.dtype)
        eps = eps_fn(params, x, t, cond)
        return ddim_step(schedule, x, eps, t, t_next, eta=eta, noise=noise), None

    def segment(x: Image, pairs: Int[Array, "step 2"]) -> tuple[Image, Image]:
        x, _ = jax.lax.scan(step, x, pairs)
        return x, x

    pairs = np.stack([times[:-1], times[1:]], axis=-1).reshape(-1, every, 2)
    return jax.lax.scan(segment, x, jnp.asarray(pairs, jnp.int32))[1]


def invert(
    eps_fn: EpsFn,
    params: Params,
    schedule: Schedule,
    grid: Grid,
    x0: Image,
    cond: Cond,
    *,
    guidance: Guidance | None = None,
    eta: float = 0.0,
    key: PRNGKey | None = None,
) -> Path:
    """DDIM inversion of one image, equations (4.1) to (4.3): the states at the recorded timesteps.

    Args:
        x0: one clean image, taken as the state at ``grid.times[0]``.
        cond: its condition.
        guidance: scale and negative condition; ``None`` for the plain prediction.
        eta: share of fresh noise per step (0 = the deterministic map), drawn from ``key``.

    Raises:
        ValueError: eta above 0 without a key.
    """
    times, every = grid.times[: grid.kept * grid.every + 1], grid.every
    states = _walk(guided(eps_fn, guidance), params, schedule, x0, cond, times, every, eta, key)
    return Path(states, jnp.asarray(grid.recorded, jnp.int32))


class Sample(NamedTuple):
    """A generated image and the states it came through (timesteps ascending)."""

    x0: Image
    path: Path


def sample(
    eps_fn: EpsFn,
    params: Params,
    schedule: Schedule,
    grid: Grid,
    noise: Image,
    cond: Cond,
    *,
    guidance: Guidance | None = None,
    eta: float = 0.0,
    key: PRNGKey | None = None,
) -> Sample:
    """DDIM sampling of one image from unit normal ``noise`` at ``grid.times[-1]`` down to
    ``grid.times[0]``, with the arguments of :func:`invert`. Its recorded states are the trajectory
    of the global scope (method.md, section 3).

    Raises:
        ValueError: eta above 0 without a key.
    """
    times, every = grid.times[::-1], grid.every
    states = _walk(guided(eps_fn, guidance), params, schedule, noise, cond, times, every, eta, key)
    recorded = jnp.asarray(grid.recorded, jnp.int32)
    return Sample(states[-1], Path(states[:-1][::-1][: grid.kept], recorded))
