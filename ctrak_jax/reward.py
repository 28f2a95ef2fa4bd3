r"""The losses of ONE sample at ONE step (method.md, section 2).

For a differentiable reward R the reward loss is

.. math::
    L_R(\theta) = \frac{1}{D} \Vert \mathrm{sg}[\epsilon(x_t, c) + \delta] -
    \epsilon(x_t, c) \Vert^2, \qquad \delta = -w_t \nabla_x R(x_t)                        \tag{2.1}

with D the number of elements of the image. Its gradient is a vector-Jacobian product,

.. math::
    \nabla_\theta L_R = u^\top \frac{\partial\epsilon}{\partial\theta}, \qquad
    u = -\frac{2}{D} \delta                                                               \tag{2.2}

so a loss here is the function that gives the cotangent u at one step. That form never takes the
difference of two nearly equal predictions and keeps u in float32 whatever the network computes in.
Plain losses f(eps) join in with :math:`u = \partial f/\partial\epsilon`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ctrak_jax.schedule import Schedule, implied_prediction, posterior_mean, split
from ctrak_jax.trajectory import under_both
from ctrak_jax.typing import Array, Cond, EpsFn, Image, Params, Reward, Scalar, Timestep


class Step(NamedTuple):
    """The network at one point of one trajectory, with what a loss may ask of it.

    Attributes:
        eps: the prediction at the state x and timestep t, float32.
        pull_x: u -> u^T d eps / d x, the backward pass through the network to the state.
        eps_under: another condition -> the prediction at the same state.
    """

    x: Image
    t: Timestep
    eps: Image
    pull_x: Callable[[Image], Image]
    eps_under: Callable[[Cond], Image]


Loss = Callable[[Step], Image]
"""Gives the cotangent u = dL/d eps at one step, shaped like eps."""

Contrast = Callable[[Image, Timestep], Image]
"""The difference of the predictions under two conditions at one state."""


def linearise(eps_fn: EpsFn, params: Params, x: Image, t: Timestep, cond: Cond) -> Step:
    """Evaluate ``eps_fn`` at one point and keep its pullback to x."""
    x = x.astype(jnp.float32)

    def predict(x: Image, cond: Cond) -> Image:
        return eps_fn(params, x, t, cond).astype(jnp.float32)

    eps, pull = jax.vjp(lambda x: predict(x, cond), x)
    return Step(x, t, eps, lambda u: pull(u)[0], lambda other: predict(x, other))


def reward_cotangent(delta: Image) -> Image:
    """Equation (2.2): the cotangent of the reward loss with target shift ``delta``."""
    return -2.0 * delta / delta.size


def reward_loss(eps: Image, delta: Image) -> Scalar:
    """Equation (2.1) as a scalar, whose ``jax.grad`` is equation (2.2)."""
    return jnp.mean((jax.lax.stop_gradient(eps + delta) - eps) ** 2)


def dsm(schedule: Schedule, x0: Image) -> Loss:
    """Denoising score matching: mean (n - eps)^2, n the noise from ``x0`` to the state (TRAK)."""

    def loss(step: Step) -> Image:
        wanted = implied_prediction(schedule, step.x, step.t, x0)
        return -2.0 * (wanted - step.eps) / step.eps.size

    return loss


def l2() -> Loss:
    """Mean eps^2, u = 2 eps / D: the training loss of D-TRAK (Zheng et al. 2024)."""
    return lambda step: 2.0 * step.eps / step.eps.size


def l1() -> Loss:
    """Mean abs eps, u = sign(eps) / D: the training loss of DAS in the Concept-TRAK comparison."""
    return lambda step: jnp.sign(step.eps) / step.eps.size


def mean() -> Loss:
    """Mean eps, u = 1 / D: the model output function of DAS (Lin et al. 2025)."""
    return lambda step: jnp.full_like(step.eps, 1.0 / step.eps.size)


def reward_xt(reward: Reward, weight: float = 1.0) -> Loss:
    """Any reward of the noisy state: delta = - weight grad R(x_t)."""
    return lambda step: reward_cotangent(-weight * jax.grad(reward)(step.x))


def reward_x0(reward: Reward, schedule: Schedule, weight: float = 1.0) -> Loss:
    r"""Any reward of the posterior mean: delta = - weight grad_x R(x0_hat(x)).

    The gradient goes through the network. With r = grad R at x0_hat,

    .. math::
        \nabla_x R(\hat x_0(x_t)) = \Bigl( r - \sqrt{1-\bar\alpha_t}
        \Bigl(\frac{\partial\epsilon}{\partial x_t}\Bigr)^\top r \Bigr)
        / \sqrt{\bar\alpha_t}                                                            \tag{2.3}
    """

    def loss(step: Step) -> Image:
        signal, sigma = split(schedule, step.t)
        slope = jax.grad(reward)(posterior_mean(schedule, step.x, step.t, step.eps))
        grad_x = (slope - sigma * step.pull_x(slope)) / signal
        return reward_cotangent(-weight * grad_x)

    return loss


def dps(schedule: Schedule, x0: Image, scale: float = 1.0) -> Loss:
    """Concept-TRAK's training loss, of the reward R = - mean (x0_hat(x_t) - x0)^2: equation (2.4),
    delta = + scale grad_x mean (x0_hat - x0)^2.

    Source: Chung et al. 2023 (the guidance), Concept-TRAK 2026 (the loss).
    """
    return reward_x0(lambda x0_hat: -jnp.mean((x0_hat - x0) ** 2), schedule, scale)


class Mixture(NamedTuple):
    """Several conditions without a concept, stacked [alternative, ...]; the weights sum to 1."""

    conditions: Cond
    weights: Float[Array, " alternative"]


def slider(minus: Cond, scale: float = 1.0, contrast: Contrast | None = None) -> Loss:
    """A concept's reward log p(concept | x) by the condition without it:
    delta = + scale (eps(c) - eps(c_minus)), equation (2.6).

    By Bayes' rule, equation (2.5), c_minus is a mixture over the values of the concept's attribute;
    a :class:`Mixture` takes fixed weights for p(v | x).
    Source: Gandikota et al. 2024 (the slider), Concept-TRAK 2026 (the loss).

    Args:
        minus: a condition, or a mixture of them.
        contrast: gives eps(c) - eps(c_minus) where the network that is differentiated computes in
            lower precision: rounded to bfloat16, a quarter of that difference was noise.
    """

    def loss(step: Step) -> Image:
        if contrast is not None:
            return reward_cotangent(scale * contrast(step.x, step.t))
        return reward_cotangent(scale * (step.eps - _under(step.eps_under, minus, step.eps)))

    return loss


def within(loss: Loss, mask: Float[Array, "height width"]) -> Loss:
    """A loss of a part of the picture: the target shift is multiplied by the mask [H, W], 1 inside
    and 0 outside, at the resolution of the states. A mask of ones changes nothing."""
    return lambda step: loss(step) * mask[..., None]


def _under(eps_under: Callable[[Cond], Image], minus: Cond, like: Image) -> Image:
    """The prediction under a condition, or its mean under several, one after the other: side by
    side they would multiply the memory of everything that is vmapped over."""
    if not isinstance(minus, Mixture):
        return eps_under(minus)

    def add(total: Image, one: Mixture) -> tuple[Image, None]:
        return total + one.weights * eps_under(one.conditions), None

    return jax.lax.scan(add, jnp.zeros_like(like), minus)[0]


def contrast_of(eps_fn: EpsFn, params: Params, cond: Cond, minus: Cond) -> Contrast:
    """eps(c) - eps(c_minus) by a network of full precision."""

    def contrast(x: Image, t: Timestep) -> Image:
        if isinstance(minus, Mixture):
            wanted = eps_fn(params, x, t, cond)
            return wanted - _under(lambda c: eps_fn(params, x, t, c), minus, wanted)
        wanted, other = under_both(eps_fn, params, x, t, cond, minus)
        return wanted - other

    return contrast


def cfg(null: Cond, scale: float = 1.0) -> Loss:
    """The slider against the null condition: the whole condition is the concept."""
    return slider(null, scale)
