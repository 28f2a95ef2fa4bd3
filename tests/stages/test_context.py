"""What a stage works with: values that outlive a trace, and what inversions are guided against."""

from pathlib import Path

import jax
import numpy as np
import pytest

from ctrak_jax import config as cfg
from ctrak_jax.data import build
from ctrak_jax.devices import local_mesh
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.run.variants import unnamed
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
    jax.jit(lambda: ctx.recipe.schedule.signal)()
    assert float(ctx.recipe.schedule.signal[0]) ** 2 == pytest.approx(1 - 1e-4)


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


def test_without_an_attribute_neither_condition_nor_negative_names_it():
    ctx = context(negative="attribute")
    (variant,) = [v for v in unnamed(ctx.config) if v.without == "color"]
    samples = ctx.samples(variant)
    batch = samples.batch(np.arange(len(samples.rows)))
    own = ctx.dataset.train_conditions
    np.testing.assert_array_equal(batch.cond[:, :2], own[:, :2])
    np.testing.assert_array_equal(batch.cond[:, 2:], 0)
    np.testing.assert_array_equal(batch.negatives[:, 0, :2], 1 - own[:, :2])
    assert batch.negatives.shape == (len(own), 1, 4)
    np.testing.assert_array_equal(batch.negatives[:, :, 2:], 0)
    np.testing.assert_array_equal(batch.x0, ctx.samples().batch(samples.rows).x0)


def test_a_part_of_the_candidates_may_be_featurized_unnamed():
    ctx = context()
    variant = unnamed(ctx.config)[0]._replace(candidates=10)
    index = ctx.samples(variant).indices
    assert len(index) == 10
    assert set(index) < set(ctx.dataset.train_index)
    np.testing.assert_array_equal(index, ctx.candidates(variant).train_index)
    every = variant._replace(candidates=10_000)
    np.testing.assert_array_equal(ctx.samples(every).indices, ctx.dataset.train_index)
