"""What a stage works with: values that outlive a trace, and what inversions are guided against."""

from pathlib import Path

import jax
import numpy as np
import pytest

from ctrak_jax import config as cfg
from ctrak_jax.data import build
from ctrak_jax.devices import local_mesh
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.stages.context import Context


def context(**trajectory) -> Context:
    held_out = ({"shape": "triangle", "color": "red"},)
    config = cfg.Config(
        data=cfg.DataConfig(size=64, image_size=8, hold_out=held_out),
        trajectory=cfg.TrajectoryConfig(**trajectory),
    )
    data = build(config.data)
    folder, mesh = RunFolder(root=Path()), local_mesh(1)
    return Context(config=config, folder=folder, seed=0, training_set=data, dataset=data, mesh=mesh)


def negatives_of(ctx: Context) -> np.ndarray:
    """What every training sample is guided against."""
    return ctx.samples().batch(np.arange(len(ctx.dataset.train_index))).negatives


def test_a_schedule_first_asked_for_under_a_trace_is_values_afterwards():
    ctx = context()
    jax.jit(lambda: ctx.recipe.schedule.alphas_cumprod)()
    assert float(ctx.recipe.schedule.alphas_cumprod[0]) == pytest.approx(1 - 1e-4)


def test_one_attribute_at_a_time_meets_also_what_was_never_trained():
    ctx = context(negative="attribute")
    conditions = ctx.dataset.train_conditions
    negatives = negatives_of(ctx)
    assert negatives.shape == (len(conditions), 2, 4)
    assert (np.abs(negatives - conditions[:, None]).sum(-1) == 2).all()
    red_triangle = ctx.dataset.conditions.encode({"shape": "triangle", "color": "red"})
    assert (negatives == red_triangle).all(-1).any()
    assert not (conditions == red_triangle).all(-1).any()


@pytest.mark.parametrize("number", [1, 4])
def test_of_two_attributes_of_two_values_one_condition_is_opposite(number):
    ctx = context(negative="opposite", negatives=number)
    conditions = ctx.dataset.train_conditions
    np.testing.assert_array_equal(negatives_of(ctx), 1 - conditions[:, None])


def test_others_are_conditions_of_the_training_set():
    ctx = context(negative="other", negatives=2)
    conditions = ctx.dataset.train_conditions
    negatives = negatives_of(ctx)
    known = {tuple(c) for c in conditions}
    for own, others in zip(conditions, negatives, strict=True):
        assert {tuple(c) for c in others} == known - {tuple(own)}


def test_the_null_condition_is_one_negative():
    ctx = context(negative="null")
    conditions = ctx.dataset.train_conditions
    np.testing.assert_array_equal(negatives_of(ctx), np.zeros((len(conditions), 1, 4)))
