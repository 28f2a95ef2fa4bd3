"""Rewards that questions are asked with: looked at before any work is done with them."""

import numpy as np

from ctrak_jax import rewards
from ctrak_jax.data.dataset import to_unit
from ctrak_jax.errors import UsageError
from ctrak_jax.rewards import Concept, ConceptReward
from ctrak_jax.stages.context import Context

SHOWN = 3
"""Training images of every concept at which a reward's gradient is looked at."""


def check_for_run(ctx: Context) -> None:
    """Refuse a reward that the run's questions cannot be asked with; at training images, before
    there is a model.

    Raises:
        UsageError: as :func:`ctrak_jax.rewards.of` and :func:`ctrak_jax.rewards.check`.
    """
    if "reward" not in ctx.config.methods or not ctx.concepts:
        return
    found = ctx.reward_for(ctx.concepts)
    assert found is not None
    data, asked, pictures = ctx.dataset, [], []
    for concept in ctx.concepts:
        rows = np.flatnonzero(data.carries(concept.name, concept.value or ""))[:SHOWN]
        if len(rows):
            asked.append(concept)
            pictures.append(data.train_images(rows))
    rewards.check(found, asked, pictures)


def reward_for_image(ctx: Context, concepts: list[Concept], image: np.ndarray) -> ConceptReward:
    """The reward of the network's samples for some concepts of one image, uint8 [H, W, 3].

    Raises:
        UsageError: as :func:`ctrak_jax.rewards.of` and :func:`ctrak_jax.rewards.check`, or a
            concept that the reward does not answer.
    """
    found = ctx.reward_for(concepts)
    if found is None:
        raise UsageError(
            "--method reward needs a reward: give --reward, such as python:FILE.py:function."
        )
    for concept in concepts:
        if concept not in found.targets:
            raise UsageError(f"{found.about} does not judge {concept}; ask about another concept.")
    rewards.check(found, concepts, [to_unit(image)[None]] * len(concepts))
    return ctx.inputs.reward_of_samples(found)
