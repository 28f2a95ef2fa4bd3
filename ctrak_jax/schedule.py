r"""Noise schedules and the conversions between predictions (method.md, section 1).

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
"""

from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ctrak_jax.typing import Array, Cond, EpsFn, Image, Params, Timestep

Prediction = Literal["eps", "v", "x0"]


class Schedule(NamedTuple):
    """The cumulative signal powers :math:`\\bar\\alpha_t`, decreasing, one per timestep."""

    alphas_cumprod: Float[Array, " steps"]

    @property
    def steps(self) -> int:
        return self.alphas_cumprod.shape[0]


class Level(NamedTuple):
    """:math:`\\sqrt{\\bar\\alpha_t}` (signal) and :math:`\\sqrt{1-\\bar\\alpha_t}` (noise)."""

    signal: Float[Array, "..."]
    noise: Float[Array, "..."]


def from_betas(betas: np.ndarray) -> Schedule:
    """The schedule of given betas [steps]. The product is formed in their own precision."""
    return Schedule(jnp.asarray(np.cumprod(1.0 - betas), jnp.float32))


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


def level(schedule: Schedule, t: Int[Array, "*n"] | int) -> Level:
    """Signal and noise amplitudes at timestep(s) ``t``."""
    abar = schedule.alphas_cumprod[t]
    return Level(jnp.sqrt(abar), jnp.sqrt(1.0 - abar))


def add_noise(schedule: Schedule, x0: Image, t: Timestep, noise: Image) -> Image:
    """Equation (1.1) for one image."""
    signal, sigma = level(schedule, t)
    return signal * x0 + sigma * noise


def posterior_mean(schedule: Schedule, x: Image, t: Timestep, eps: Image) -> Image:
    """Equation (1.2): the clean image that ``eps`` implies at ``(x, t)``."""
    signal, sigma = level(schedule, t)
    return (x - sigma * eps) / signal


def implied_noise(schedule: Schedule, x: Image, t: Timestep, x0: Image) -> Image:
    """The noise n of equation (1.1) that leads from ``x0`` to ``x`` at ``t``, on whatever path."""
    signal, sigma = level(schedule, t)
    return (x - signal * x0) / sigma


def predicted_noise(
    schedule: Schedule, prediction: str, x: Image, t: Timestep, output: Image
) -> Image:
    """The noise that a network's output means: it predicts ``eps``, ``v`` or ``x0``."""
    if prediction == "eps":
        return output
    signal, sigma = level(schedule, t)
    return signal * output + sigma * x if prediction == "v" else (x - signal * output) / sigma


def as_eps_fn(network: EpsFn, schedule: Schedule, prediction: str) -> EpsFn:
    """Wrap a network that predicts ``eps``, ``v`` or ``x0`` as a noise prediction.

    Raises:
        ValueError: any other prediction.
    """
    if prediction not in ("eps", "v", "x0"):
        raise ValueError(f"prediction={prediction!r} is not known; use one of 'eps', 'v', 'x0'.")

    def eps_fn(params: Params, x: Image, t: Timestep, cond: Cond, /) -> Image:
        return predicted_noise(schedule, prediction, x, t, network(params, x, t, cond))

    return eps_fn
