"""Selection, normalisation, sums over time and what they may not depend on."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax.gradient import (
    flatten_samples,
    global_norm,
    sample_gradient,
    sample_gradients,
    select,
    step_gradient,
    unit_or_zero,
)
from ctrak_jax.reward import dps, dsm, linearise
from ctrak_jax.trajectory import Path
from tests.tiny import Tiny


def features(tiny: Tiny, loss, *, normalise, time_chunk=None, samples: Any = slice(None)):
    def one(x0, path, cond):
        return sample_gradient(
            loss(tiny.schedule, x0),
            tiny.eps_fn,
            tiny.params,
            path,
            cond,
            normalise=normalise,
            time_chunk=time_chunk,
        )

    paths = jax.tree.map(lambda leaf: leaf[samples], tiny.paths)
    return flatten_samples(jax.vmap(one)(tiny.x0[samples], paths, tiny.cond[samples]))


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("loss", [dsm, dps])
def test_sum_over_time_is_the_sum_of_steps(tiny, loss, normalise):
    total = 0.0
    for j in range(9):
        g = step_gradient(
            loss(tiny.schedule, tiny.x0[0]),
            tiny.eps_fn,
            tiny.params,
            tiny.paths.x[0, j],
            tiny.paths.t[0, j],
            tiny.cond[0],
        )
        row = np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(g)])
        total = total + (row / np.linalg.norm(row) if normalise else row)
    ours = features(tiny, loss, normalise=normalise)[0]
    assert np.linalg.norm(ours - total) <= 1e-5 * np.linalg.norm(total)


@pytest.mark.parametrize("time_chunk", [None, 3])
@pytest.mark.parametrize("loss", [dsm, dps])
def test_both_sums_at_once_are_the_two_sums(tiny, loss, time_chunk):
    def one(x0, path, cond):
        args = loss(tiny.schedule, x0), tiny.eps_fn, tiny.params, path, cond
        return sample_gradients(*args, time_chunk=time_chunk)

    both = jax.vmap(one)(tiny.x0, tiny.paths, tiny.cond)
    for normalise, found in ((False, both.plain), (True, both.normalised)):
        alone = features(tiny, loss, normalise=normalise)
        error = jnp.linalg.norm(flatten_samples(found) - alone, axis=1)
        assert float((error / jnp.linalg.norm(alone, axis=1)).max()) <= 1e-5


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("time_chunk", [1, 3, 9])
def test_time_chunks_do_not_change_a_feature(tiny, time_chunk, normalise):
    whole = features(tiny, dps, normalise=normalise)
    parts = features(tiny, dps, normalise=normalise, time_chunk=time_chunk)
    assert float(jnp.linalg.norm(whole - parts)) <= 1e-5 * float(jnp.linalg.norm(whole))


def test_batch_size_and_order_do_not_change_a_feature(tiny):
    whole = features(tiny, dps, normalise=True)
    turned = features(tiny, dps, normalise=True, samples=jnp.array([2, 0, 1]))
    alone = features(tiny, dps, normalise=True, samples=jnp.array([1]))
    for other, row in ((turned[0], 2), (turned[2], 1), (alone[0], 1)):
        assert float(jnp.linalg.norm(whole[row] - other)) <= 1e-5 * float(
            jnp.linalg.norm(whole[row])
        )


def test_bad_time_chunk_names_the_good_ones(tiny):
    with pytest.raises(ValueError, match=r"time_chunk=4 must divide the 9 .*\[1, 3, 9\]"):
        features(tiny, dps, normalise=True, time_chunk=4)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e6])
def test_normalisation_removes_positive_constants(tiny, scale):
    plain = features(tiny, dps, normalise=True)
    scaled = features(tiny, lambda s, x0: dps(s, x0, scale), normalise=True)
    np.testing.assert_allclose(plain, scaled, atol=2e-5)


def test_unit_or_zero():
    tree = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([[4.0]])}
    assert float(global_norm(unit_or_zero(tree))) == pytest.approx(1.0)
    zero = jax.tree.map(jnp.zeros_like, tree)
    assert float(global_norm(unit_or_zero(zero))) == 0.0


def test_a_sample_without_gradient_stays_zero(tiny):
    g = sample_gradient(
        lambda step: jnp.zeros_like(step.eps),
        tiny.eps_fn,
        tiny.params,
        Path(tiny.paths.x[0], tiny.paths.t[0]),
        tiny.cond[0],
        normalise=True,
    )
    assert all(float(jnp.abs(leaf).max()) == 0.0 for leaf in jax.tree.leaves(g))


def test_selection_splits_and_merges(tiny):
    part = select(tiny.params, include=("*attn*", "final/*"), exclude=("*bias",))
    assert part.names == tuple(sorted(part.params))
    assert all("attn" in n or n.startswith("final/") for n in part.names)
    assert not any(n.endswith("bias") for n in part.names)
    assert part.size == sum(leaf.size for leaf in part.params.values())
    merged = part.merge(jax.tree.map(jnp.zeros_like, part.params))
    assert float(jnp.abs(merged["block_0"]["attn"]["qkv"]["kernel"]).max()) == 0.0
    np.testing.assert_array_equal(
        merged["block_0"]["mlp"]["w12"]["kernel"], tiny.params["block_0"]["mlp"]["w12"]["kernel"]
    )


def test_gradient_of_a_selection_is_the_part_of_the_whole(tiny):
    part = select(tiny.params, include=("*attn*",))

    def eps_fn(chosen, x, t, cond):
        return tiny.eps_fn(part.merge(chosen), x, t, cond)

    args = (tiny.paths.x[0, 4], tiny.paths.t[0, 4], tiny.cond[0])
    loss = dps(tiny.schedule, tiny.x0[0])
    whole = select(step_gradient(loss, tiny.eps_fn, tiny.params, *args), include=("*attn*",))
    ours = step_gradient(loss, eps_fn, part.params, *args)
    chex.assert_trees_all_close(ours, whole.params, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("include", "exclude", "message"),
    [(("*attn3*",), (), "matches none"), (("*",), ("*",), "leaves no parameter")],
)
def test_selection_that_selects_nothing_is_refused(tiny, include, exclude, message):
    with pytest.raises(ValueError, match=message):
        select(tiny.params, include, exclude)


def _flops(fn, *args) -> float:
    cost = jax.jit(fn).lower(*args).compile().cost_analysis()
    assert cost is not None
    return cost["flops"]


@pytest.mark.parametrize("in_sum", [False, True])
def test_a_dps_step_costs_a_forward_and_two_backwards(in_sum):
    """Compiled operations within 10% of forward + backward to x + backward to theta, each counted
    alone by the same compiler; the width at which matmuls, not elementwise work, set the count."""
    from ctrak_jax import schedule as schedules
    from ctrak_jax.models import DiT
    from ctrak_jax.models.denoiser import eps_fn_of
    from tests.tiny import SHAPE, random_params

    schedule = schedules.linear()
    network = DiT(width=64, depth=2, heads=4, patch=4)
    params = random_params(network, SHAPE, 4)
    eps_fn = eps_fn_of(network, schedule, "eps")
    x, x0, cond, u = (jnp.ones(s) for s in (SHAPE, SHAPE, (4,), SHAPE))
    t = jnp.int32(500)

    def forward(params, x):
        return eps_fn(params, x, t, cond)

    def back_to_x(params, x):
        return jax.vjp(lambda x: forward(params, x), x)[1](u)

    def back_to_params(params, x):
        return jax.vjp(lambda p: forward(p, x), params)[1](u)

    def step(params, x):
        loss = dps(schedule, x0)
        if in_sum:
            path = Path(x[None], t[None])
            return sample_gradient(loss, eps_fn, params, path, cond, normalise=False)
        return step_gradient(loss, eps_fn, params, x, t, cond)

    once = _flops(forward, params, x)
    bound = _flops(back_to_x, params, x) + _flops(back_to_params, params, x) - once
    assert _flops(step, params, x) <= 1.10 * bound
    assert _flops(step, params, x) >= 0.9 * bound


def test_linearise_pulls_back_through_the_network(tiny):
    x, t, cond = tiny.paths.x[0, 4], tiny.paths.t[0, 4], tiny.cond[0]
    u = jax.random.normal(jax.random.key(0), x.shape)
    direct = jax.grad(lambda x: jnp.vdot(u, tiny.eps_fn(tiny.params, x, t, cond)))(x)
    pulled = linearise(tiny.eps_fn, tiny.params, x, t, cond).pull_x(u)
    np.testing.assert_allclose(pulled, direct, rtol=1e-4, atol=1e-6)
