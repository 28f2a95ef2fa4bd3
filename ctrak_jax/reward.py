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
difference of two nearly equal predictions, keeps u in float32 whatever the network computes in, and
lets plain losses f(eps) join in with :math:`u = \partial f/\partial\epsilon`.

============ ================================================ =================================
loss          what it is                                        cotangent u
============ ================================================ =================================
``dsm``       mean (n - eps)^2 (TRAK)                           -2 (n - eps) / D
``l2``        mean eps^2 (D-TRAK)                               2 eps / D
``l1``        mean abs eps (DAS, as compared)                   sign(eps) / D
``mean``      mean eps (DAS, as its authors publish it)         1 / D
``dps``       reward - mean (x0_hat - x0)^2                     -2 delta / D, through the network
``slider``    reward log p(concept | x) by two conditions       -2 s (eps - eps_minus) / D
``reward``    any R(x_t) or R(x0_hat)                           -2 delta / D
============ ================================================ =================================
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ctrak_jax.schedule import Schedule, implied_noise, level, posterior_mean
from ctrak_jax.typing import Array, Cond, EpsFn, Image, Params, Reward, Scalar, Timestep


class Step(NamedTuple):
    """The network at one point of one trajectory, with what a loss may ask of it.

    Attributes:
        x: the state.
        t: its timestep.
        eps: the prediction there, float32.
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
    """Equation (2.1) as a scalar, for reading and for tests: ``jax.grad`` of it gives
    equation (2.2)."""
    target = jax.lax.stop_gradient(eps + delta)
    return jnp.mean((target - eps) ** 2)


def dsm(schedule: Schedule, x0: Image) -> Loss:
    """Denoising score matching, mean (n - eps)^2, n the noise between ``x0`` and the state."""

    def loss(step: Step) -> Image:
        noise = implied_noise(schedule, step.x, step.t, x0)
        return -2.0 * (noise - step.eps) / step.eps.size

    return loss


def l2() -> Loss:
    """Mean eps^2: the training loss of D-TRAK (Zheng et al. 2024)."""
    return lambda step: 2.0 * step.eps / step.eps.size


def l1() -> Loss:
    """Mean abs eps: the training loss under the name DAS in the Concept-TRAK comparison."""
    return lambda step: jnp.sign(step.eps) / step.eps.size


def mean() -> Loss:
    """Mean eps: the model output function of DAS (Lin et al. 2025)."""
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
        signal, sigma = level(schedule, step.t)
        slope = jax.grad(reward)(posterior_mean(schedule, step.x, step.t, step.eps))
        grad_x = (slope - sigma * step.pull_x(slope)) / signal
        return reward_cotangent(-weight * grad_x)

    return loss


def dps(schedule: Schedule, x0: Image, scale: float = 1.0) -> Loss:
    """Concept-TRAK's training loss: the reward is minus the squared reconstruction error,
    R = - mean (x0_hat(x_t) - x0)^2, so delta = + scale grad_x mean (x0_hat - x0)^2, equation (2.4).

    Its direction is that of the unsquared norm; with per-timestep normalisation they are equal.
    Source: Chung et al. 2023 (the guidance), Concept-TRAK 2026 (the loss).
    """
    return reward_x0(lambda x0_hat: -jnp.mean((x0_hat - x0) ** 2), schedule, scale)


class Mixture(NamedTuple):
    """Several conditions without a concept, and how much each counts.

    Attributes:
        conditions: stacked [alternative, ...].
        weights: [alternative], summing to 1.
    """

    conditions: Cond
    weights: Float[Array, " alternative"]


def slider(minus: Cond, scale: float = 1.0, contrast: Contrast | None = None) -> Loss:
    """A concept's reward log p(concept | x) by the condition without it:
    delta = + scale (eps(c) - eps(c_minus)), equation (2.6).

    With the null condition as ``minus`` this is classifier-free guidance, :func:`cfg`. By Bayes'
    rule, equation (2.5), c_minus is a mixture over the values of the concept's attribute; a
    :class:`Mixture` takes fixed weights for p(v | x).
    Source: Gandikota et al. 2024 (the slider), Concept-TRAK 2026 (the loss).

    Args:
        minus: a condition, or a mixture of them.
        contrast: gives eps(c) - eps(c_minus) where the network that is differentiated computes in
            lower precision. The two predictions differ by a few hundredths of their size: rounded
            to bfloat16 on the way, a quarter of that difference was noise.
    """
    if contrast is not None:
        return lambda step: reward_cotangent(scale * contrast(step.x, step.t))
    return lambda step: reward_cotangent(scale * (step.eps - _under(step, minus)))


def _under(step: Step, minus: Cond) -> Image:
    """The prediction under a condition, or its mean under several."""
    if isinstance(minus, Mixture):
        return _mean_under(step.eps_under, minus, step.eps)
    return step.eps_under(minus)


def _mean_under(eps_under: Callable[[Cond], Image], mixture: Mixture, like: Image) -> Image:
    """One prediction after the other: side by side they would multiply the memory of everything
    that is vmapped over."""

    def add(total: Image, one: tuple[Cond, Scalar]) -> tuple[Image, None]:
        condition, weight = one
        return total + weight * eps_under(condition), None

    alternatives = mixture.conditions, mixture.weights
    return jax.lax.scan(add, jnp.zeros_like(like), alternatives)[0]


def contrast_of(eps_fn: EpsFn, params: Params, cond: Cond, minus: Cond) -> Contrast:
    """eps(c) - eps(c_minus) by a network of full precision."""

    def contrast(x: Image, t: Timestep) -> Image:
        if isinstance(minus, Mixture):
            wanted = eps_fn(params, x, t, cond)
            return wanted - _mean_under(lambda c: eps_fn(params, x, t, c), minus, wanted)
        # One call on a pair instead of two calls, as in guided trajectories.
        pair = jax.tree.map(lambda a, b: jnp.stack([a, b]), cond, minus)
        wanted, other = jax.vmap(eps_fn, (None, None, None, 0))(params, x, t, pair)
        return wanted - other

    return contrast


def cfg(null: Cond, scale: float = 1.0) -> Loss:
    """The slider against the null condition: the whole condition is the concept."""
    return slider(null, scale)
