"""What a stage works with: values that outlive a trace, and what inversions are guided against."""

from pathlib import Path

import jax
import numpy as np
import pytest

from ctrak_jax import config as cfg
from ctrak_jax.data import build
from ctrak_jax.devices import local_mesh
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.samples import samples_of


def context(**trajectory) -> Context:
    held_out = ({"shape": "triangle", "color": "red"},)
    config = cfg.Config(
        data=cfg.DataConfig(size=64, image_size=8, hold_out=held_out),
        trajectory=cfg.TrajectoryConfig(**trajectory),
    )
    data = build(config.data)
    return Context(
        config=config, root=Path(), seed=0, training_set=data, dataset=data, mesh=local_mesh(1)
    )


def against_of(ctx: Context) -> np.ndarray:
    """What every training sample is guided against."""
    return samples_of(ctx).batch(np.arange(len(ctx.dataset.train_index))).against


def test_a_schedule_first_asked_for_under_a_trace_is_values_afterwards():
    ctx = context()
    jax.jit(lambda: ctx.schedule.alphas_cumprod)()
    assert float(ctx.schedule.alphas_cumprod[0]) == pytest.approx(1 - 1e-4)


def test_one_attribute_at_a_time_meets_also_what_was_never_trained():
    ctx = context(negative="attribute")
    conditions = ctx.dataset.train_conditions
    against = against_of(ctx)
    assert against.shape == (len(conditions), 2, 4)
    assert (np.abs(against - conditions[:, None]).sum(-1) == 2).all()
    red_triangle = ctx.conditions.encode({"shape": "triangle", "color": "red"})
    assert (against == red_triangle).all(-1).any()
    assert not (conditions == red_triangle).all(-1).any()


@pytest.mark.parametrize("negatives", [1, 4])
def test_of_two_attributes_of_two_values_one_condition_is_opposite(negatives):
    ctx = context(negative="opposite", negatives=negatives)
    conditions = ctx.dataset.train_conditions
    np.testing.assert_array_equal(against_of(ctx), 1 - conditions[:, None])


def test_others_are_conditions_of_the_training_set():
    ctx = context(negative="other", negatives=2)
    conditions = ctx.dataset.train_conditions
    against = against_of(ctx)
    known = {tuple(c) for c in conditions}
    for own, others in zip(conditions, against, strict=True):
        assert {tuple(c) for c in others} == known - {tuple(own)}


def test_the_null_is_one_opponent():
    ctx = context(negative="null")
    conditions = ctx.dataset.train_conditions
    np.testing.assert_array_equal(against_of(ctx), np.zeros((len(conditions), 1, 4)))
