r"""What a retrained model is measured by, question by question (method.md, section 10).

All but the model is fixed by the full model :math:`\theta^*`: the images, the states x_t of T steps
and their noise :math:`n_t`, and the targets. On forward noising of the image,

.. math::
    f_\mathrm{loss}(q; \theta) = -\frac{1}{T} \sum_t \frac{1}{D}
    \Vert n_t - \epsilon(x_t, c; \theta) \Vert^2                                         \tag{10.1}

and on the states of the question itself, with the slider's shift :math:`\delta^*_t` of equation
(2.6) by :math:`\theta^*`,

.. math::
    f_\mathrm{concept}(q; \theta) = -\frac{1}{T} \sum_t \frac{1}{D}
    \Vert \epsilon(x_t, c; \theta^*) + \delta^*_t - \epsilon(x_t, c; \theta) \Vert^2     \tag{10.2}

whose gradient at :math:`\theta^*` is minus that of the concept's loss, equation (2.1). Both are
means over the question's members, too.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ctrak_jax.attribution.gradients import denoising_errors
from ctrak_jax.attribution.query import QueryBatch, member_key, query_member
from ctrak_jax.attribution.recipe import QueryRecipe
from ctrak_jax.reward import contrast_of
from ctrak_jax.schedule import Schedule
from ctrak_jax.trajectory import Path
from ctrak_jax.typing import Array, Cond, EpsFn, Params


class QuestionStates(NamedTuple):
    """What the full model fixes of a batch of images and the questions about each.

    Attributes:
        cond: the conditions [image, ...].
        x0: the images [image, member, ...].
        forward: their forward noising, x [image, member, time, ...].
        own: states of the questions (inversions or sampling trajectories), likewise.
        targets: what the prediction there is compared with [image, concept, member, time, ...].
    """

    cond: Any
    x0: Any
    forward: Path
    own: Path
    targets: Any


class Outputs(NamedTuple):
    """Larger is better: a loss has its sign changed."""

    loss: Float[Array, " image"]
    concept: Float[Array, "image concept"]


def question_states(
    recipe: QueryRecipe,
    eps_fn: EpsFn,
    params: Params,
    batch: QueryBatch,
    null: Cond | None = None,
) -> QuestionStates:
    """The fixed part of :func:`outputs`, by the full model.

    Args:
        recipe: schedule, grid, scope, members, guidance and scale.
        eps_fn: the noise prediction of one sample, in full precision.
        params: the full model's.
        batch: the images and concepts.
        null: the condition that guidance is against, where there is guidance.
    """

    def one(item: QueryBatch) -> QuestionStates:
        def member(number: Array) -> QuestionStates:
            key = member_key(recipe, item, number)
            drawn = query_member(recipe, eps_fn, params, item, null, key)
            own = drawn.paths["inversion"]

            def target(minus: Cond) -> Array:
                contrast = contrast_of(eps_fn, params, item.cond, minus)

                def at(x: Array, t: Array) -> Array:
                    return eps_fn(params, x, t, item.cond) + recipe.scale * contrast(x, t)

                return jax.vmap(at)(own.x, own.t)

            targets = jax.vmap(target)(item.minus)
            return QuestionStates(item.cond, drawn.x0, drawn.paths["forward"], own, targets)

        found = jax.lax.map(member, jnp.arange(recipe.members))
        return found._replace(cond=item.cond, targets=jnp.moveaxis(found.targets, 0, 1))

    return jax.vmap(one)(batch)


def outputs(schedule: Schedule, eps_fn: EpsFn, params: Params, states: QuestionStates) -> Outputs:
    """Equations (10.1) and (10.2) of a batch of images under the parameters of any model."""

    def one(states: QuestionStates) -> Outputs:
        def member(part: QuestionStates) -> Outputs:
            x0, own = part.x0, part.own
            errors = denoising_errors(eps_fn, params, schedule, part.forward, x0, states.cond)
            eps = jax.vmap(lambda x, t: eps_fn(params, x, t, states.cond))(own.x, own.t)
            apart = jax.vmap(lambda target: jnp.mean((target - eps) ** 2))(part.targets)
            return Outputs(-errors.mean(), -apart)

        by_member = states._replace(cond=None, targets=jnp.moveaxis(states.targets, 1, 0))
        found = jax.lax.map(member, by_member)
        return jax.tree.map(lambda leaf: leaf.mean(0), found)

    return jax.vmap(one)(states)
