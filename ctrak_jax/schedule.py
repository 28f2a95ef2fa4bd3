r"""Noise schedules and the conversions between predictions (method.md, section 1).

A state has a share of the clean image and one of the noise,

.. math::
    x_t = \sqrt{\bar\alpha_t} x_0 + \sqrt{1-\bar\alpha_t} n                               \tag{1.1}
.. math::
    \hat x_0(x_t) = (x_t - \sqrt{1-\bar\alpha_t} \epsilon) / \sqrt{\bar\alpha_t}          \tag{1.2}

A network may predict the noise (``eps``), the clean image (``x0``) or the velocity (``v``, Salimans
and Ho 2022):

.. math::
    v = \sqrt{\bar\alpha_t} n - \sqrt{1-\bar\alpha_t} x_0, \qquad
    \epsilon = \sqrt{\bar\alpha_t} v + \sqrt{1-\bar\alpha_t} x_t                          \tag{1.3}

:func:`predicted_noise` is the one place where these become noise predictions.

A rectified flow (Liu et al. 2023) has other shares and keeps its own prediction, the velocity from
the clean image to the noise:

.. math::
    x_s = (1-s) x_0 + s n, \qquad v = n - x_0                                             \tag{1.5}
.. math::
    x_s = x_0 + s v, \qquad \hat x_0(x_s) = x_s - s v                                     \tag{1.6}

So it is equation (1.2) with v in place of the noise and 1 and s in place of the square roots
(:func:`split`); what is built on :func:`posterior_mean`, :func:`implied_prediction` and
:func:`split` holds for both.
"""

from typing import Literal, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ctrak_jax.typing import Array, Cond, EpsFn, Image, Params, Timestep

Prediction = Literal["eps", "v", "x0", "flow"]


class Schedule(NamedTuple):
    """How states are made of clean images and noise, and what is predicted of them.

    Attributes:
        signal: the share of the clean image, decreasing, one per timestep.
        noise: the share of the unit normal noise, increasing.
        velocity: is the velocity n - x0 of a rectified flow predicted, or the noise n?
    """

    signal: Float[Array, " steps"]
    noise: Float[Array, " steps"]
    velocity: bool = False

    @property
    def steps(self) -> int:
        return self.signal.shape[0]


class Level(NamedTuple):
    """The shares of two parts of a state: the clean image, and the noise or what is predicted."""

    signal: Float[Array, "..."]
    noise: Float[Array, "..."]


def from_powers(powers: np.ndarray) -> Schedule:
    r"""The schedule of cumulative signal powers :math:`\bar\alpha_t` [steps]."""
    abar = jnp.asarray(powers, jnp.float32)
    return Schedule(jnp.sqrt(abar), jnp.sqrt(1.0 - abar))


def from_betas(betas: np.ndarray) -> Schedule:
    """The schedule of given betas [steps]. The product is formed in their own precision."""
    return from_powers(np.cumprod(1.0 - betas))


def linear(beta_start: float = 1e-4, beta_end: float = 0.02, steps: int = 1000) -> Schedule:
    """Betas evenly spaced (Ho et al. 2020). The product is formed in float64."""
    return from_betas(np.linspace(beta_start, beta_end, steps))


def scaled_linear(
    beta_start: float = 0.00085, beta_end: float = 0.012, steps: int = 1000
) -> Schedule:
    """Square roots of the betas evenly spaced (latent diffusion, Rombach et al. 2022)."""
    return from_betas(np.linspace(beta_start**0.5, beta_end**0.5, steps) ** 2)


def cosine_betas(steps: int, offset: float = 0.008, max_beta: float = 0.999) -> np.ndarray:
    r""":math:`\bar\alpha(u) = \cos^2\frac{\pi}{2}\frac{u+s}{1+s}`, betas clipped at ``max_beta``.

    Source: Nichol & Dhariwal 2021.
    """
    u = np.arange(steps + 1) / steps
    abar = np.cos((u + offset) / (1 + offset) * np.pi / 2) ** 2
    return np.minimum(1.0 - abar[1:] / abar[:-1], max_beta)


def cosine(steps: int = 1000, offset: float = 0.008, max_beta: float = 0.999) -> Schedule:
    """The schedule of :func:`cosine_betas`."""
    return from_betas(cosine_betas(steps, offset, max_beta))


def rectified_flow(shift: float = 1.0, steps: int = 1000) -> Schedule:
    r"""Levels s = 0 .. 1 of a rectified flow at timesteps 0 .. ``steps``, moved towards the noise
    by k = ``shift`` (Esser et al. 2024),

    .. math::
        s_t = \frac{k u}{1 + (k - 1) u}, \qquad u = t / T                                  \tag{1.7}

    Stable Diffusion 3 has k = 3; of FLUX.1-dev :func:`flux_shift` is k, of
    FLUX.1-schnell 1.

    Returns:
        A schedule of ``steps`` + 1 levels; ``grid(steps + 1)`` walks it evenly in u.

    Raises:
        ValueError: no positive shift.
    """
    if not shift > 0:
        raise ValueError(f"shift={shift} must be positive; 1 leaves the levels evenly spaced.")
    u = np.arange(steps + 1) / steps
    s = shift * u / (1.0 + (shift - 1.0) * u)
    return Schedule(jnp.asarray(1.0 - s, jnp.float32), jnp.asarray(s, jnp.float32), True)


def flux_shift(
    tokens: int,
    shifts: tuple[float, float] = (0.5, 1.15),
    at: tuple[int, int] = (256, 4096),
) -> float:
    """The shift k = exp(mu) of FLUX.1-dev for latents of so many tokens, mu linear in them between
    two (``base_shift``, ``max_shift`` of its scheduler)."""
    (first, last), (fewest, most) = shifts, at
    return float(np.exp(first + (tokens - fewest) * (last - first) / (most - fewest)))


def level(schedule: Schedule, t: Int[Array, "*n"] | int) -> Level:
    """The shares of the clean image and of the noise at timestep(s) ``t``."""
    return Level(schedule.signal[t], schedule.noise[t])


def split(schedule: Schedule, t: Int[Array, "*n"] | int) -> Level:
    """The shares of the clean image and of what is predicted at timestep(s) ``t``: those of
    :func:`level` where it is the noise, 1 and s for the velocity of a rectified flow."""
    signal, sigma = level(schedule, t)
    return Level(signal + sigma, sigma) if schedule.velocity else Level(signal, sigma)


def add_noise(schedule: Schedule, x0: Image, t: Timestep, noise: Image) -> Image:
    """A state of one image: equations (1.1) and (1.5)."""
    signal, sigma = level(schedule, t)
    return signal * x0 + sigma * noise


def posterior_mean(schedule: Schedule, x: Image, t: Timestep, eps: Image) -> Image:
    """Equations (1.2) and (1.6): the clean image that a prediction implies at ``(x, t)``."""
    signal, sigma = split(schedule, t)
    return (x - sigma * eps) / signal


def target(schedule: Schedule, x0: Image, noise: Image) -> Image:
    """What is to be predicted of a state made of ``x0`` and ``noise``."""
    return noise - x0 if schedule.velocity else noise


def implied_prediction(schedule: Schedule, x: Image, t: Timestep, x0: Image) -> Image:
    """The prediction that leads from ``x0`` to ``x`` at ``t``, on whatever path."""
    signal, sigma = split(schedule, t)
    return (x - signal * x0) / sigma


def network_time(schedule: Schedule, prediction: str, t: Timestep) -> Timestep | Float[Array, ""]:
    """A network's own argument for the timestep: t, or the level s of a rectified ``flow``."""
    return schedule.noise[t] if prediction == "flow" else t


def predicted_noise(
    schedule: Schedule, prediction: str, x: Image, t: Timestep, output: Image
) -> Image:
    """The noise that a network's output means where it predicts ``eps``, ``v`` or ``x0``; the
    velocity of a rectified flow (``flow``) stays what it is."""
    if prediction in ("eps", "flow"):
        return output
    signal, sigma = level(schedule, t)
    return signal * output + sigma * x if prediction == "v" else (x - signal * output) / sigma


def as_eps_fn(network: EpsFn, schedule: Schedule, prediction: str) -> EpsFn:
    """Wrap a network that predicts ``eps``, ``v`` or ``x0`` as a noise prediction, or one that
    predicts the velocity of a rectified ``flow``, whose argument is the level s in place of t.

    Raises:
        ValueError: any other prediction, or one that is not of this schedule.
    """
    if prediction not in get_args(Prediction):
        known = ", ".join(map(repr, get_args(Prediction)))
        raise ValueError(f"prediction={prediction!r} is not known; use one of {known}.")
    flow = prediction == "flow"
    if flow != schedule.velocity:
        kind = "rectified flow" if schedule.velocity else "diffusion"
        advice = "schedule.rectified_flow" if flow else "'flow'"
        raise ValueError(f"prediction={prediction!r} with a schedule of a {kind}; use {advice}.")

    def eps_fn(params: Params, x: Image, t: Timestep, cond: Cond, /) -> Image:
        output = network(params, x, network_time(schedule, prediction, t), cond)
        return predicted_noise(schedule, prediction, x, t, output)

    return eps_fn
