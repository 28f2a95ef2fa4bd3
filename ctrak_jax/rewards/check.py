"""A reward's gradient beside finite differences, before any work is done by it."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ctrak_jax.errors import UsageError
from ctrak_jax.rewards.base import Concept, ConceptReward

TOLERANCE = 0.05
"""How far a derivative may be from a finite difference, as a share of the gradient's length."""
STEPS = (0.1, 0.01, 0.001)
"""How far every value of a picture is moved; the best agreement counts."""
EPSILON = float(np.finfo(np.float32).eps)
DIRECTIONS = 4
"""Random directions of -1 and 1, whose derivatives are the gradient's length on average."""


def check(
    reward: ConceptReward, concepts: Sequence[Concept], pictures: Sequence[np.ndarray]
) -> None:
    """Refuse a reward that cannot be asked with.

    Args:
        reward: of pictures.
        concepts: those to look at; what the reward does not answer is passed over.
        pictures: for every concept some that show it, float32 [picture, H, W, 3] in [-1, 1].

    Raises:
        UsageError: a value or a gradient that is no number, a gradient that is 0 at all pictures,
            or that is not the reward's.
    """
    compiled = jax.jit(jax.value_and_grad(reward.fn, 1)), jax.jit(reward.fn)
    for concept, shown in zip(concepts, pictures, strict=True):
        if concept in reward.targets:
            _check(reward, concept, np.asarray(shown, np.float32), *compiled)


def _check(
    reward: ConceptReward,
    concept: Concept,
    shown: np.ndarray,
    both: Callable[..., tuple[jax.Array, jax.Array]],
    value: Callable[..., jax.Array],
) -> None:
    """One concept, by the compiled reward with its gradient, and without."""
    params, target = reward.params, jnp.asarray(reward.targets[concept])
    wrong = f"{reward.about}: for {concept}"
    moving = 0
    for picture in shown:
        found, gradient = (np.asarray(x, np.float64) for x in both(params, picture, target))
        if not np.isfinite(found):
            raise UsageError(f"{wrong} the reward is {found}; a division or a logarithm of 0?")
        if not np.isfinite(gradient).all():
            raise UsageError(
                f"{wrong} the gradient has NaN or infinite values where the reward is "
                f"{found:.6g}; add a floor inside a logarithm, square root or division."
            )
        length = float(np.linalg.norm(gradient))
        if length == 0:
            continue
        moving += 1
        apart = max(
            _apart(lambda x: float(value(params, x, target)), picture, gradient, direction)
            for direction in _directions(picture.shape)
        )
        if apart > TOLERANCE:
            raise UsageError(
                f"{wrong} the gradient is {apart:.0%} of its length away from finite differences "
                f"(steps {STEPS}, tolerance {TOLERANCE:.0%}); is something rounded, compared, or "
                "cut by stop_gradient?"
            )
    if not moving:
        raise UsageError(
            f"{wrong} the gradient is 0 at all {len(shown)} pictures that were tried, so it asks "
            "about nothing; return a smooth number, before any threshold or rounding."
        )


def _directions(shape: tuple[int, ...]) -> np.ndarray:
    drawn = np.random.default_rng(0).integers(0, 2, (DIRECTIONS, *shape))
    return (2.0 * drawn - 1.0).astype(np.float32)


def _apart(
    value: Callable[[np.ndarray], float],
    picture: np.ndarray,
    gradient: np.ndarray,
    direction: np.ndarray,
) -> float:
    """The best agreement of a derivative with central differences, beyond their rounding, as a
    share of the gradient's length."""
    wanted, length = float(np.vdot(gradient, direction)), float(np.linalg.norm(gradient))

    def at(step: float) -> float:
        above, below = value(picture + step * direction), value(picture - step * direction)
        rounding = 4 * EPSILON * max(abs(above), abs(below)) / step
        return max(0.0, abs((above - below) / (2 * step) - wanted) - rounding) / length

    return min(map(at, STEPS))
