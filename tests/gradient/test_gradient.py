"""Selection, normalisation, sums over time and what they may not depend on."""

from functools import cache, partial
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax import schedule as schedules
from ctrak_jax.gradient import (
    flatten_samples,
    global_norm,
    path_gradients,
    sample_gradient,
    select,
    step_gradient,
    unit_or_zero,
)
from ctrak_jax.gradient.layers import Layers, step_norms
from ctrak_jax.models import DiT
from ctrak_jax.models.denoiser import eps_fn_of, layers_fn_of
from ctrak_jax.reward import dps, dsm, linearise
from ctrak_jax.trajectory import Path
from tests.tiny import SHAPE, Tiny, make_tiny, random_params

FORMS = ("plain", "layers")
"""The reference, and the form that shows the network's linear layers."""


@cache
def program(loss, normalise, form, time_chunk):
    """The features of samples, compiled once for all the tests that ask for them."""
    tiny = make_tiny()
    whole = select(tiny.params)

    def layers_fn(params, taps, x, t, cond):
        return tiny.layers_fn(whole.merge(params, {}), taps, x, t, cond)

    def eps_fn(params, x, t, cond):
        return tiny.eps_fn(whole.merge(params, {}), x, t, cond)

    def one(params, x0, path, cond):
        args = params, path, cond
        if form == "plain":
            return sample_gradient(
                loss(tiny.schedule, x0), eps_fn, *args, normalise=normalise, time_chunk=time_chunk
            )
        return path_gradients(
            loss(tiny.schedule, x0), layers_fn, *args, normalise=[normalise], time_chunk=time_chunk
        )[0]

    def every(*args):
        return flatten_samples(jax.vmap(one, (None, 0, 0, 0))(*args))

    return partial(jax.jit(every), whole.params)


def features(
    tiny: Tiny, loss, *, normalise, form="plain", time_chunk=None, samples: Any = slice(None)
):
    x0, paths, cond = (
        jax.tree.map(lambda leaf: leaf[samples], each) for each in (tiny.x0, tiny.paths, tiny.cond)
    )
    return program(loss, normalise, form, time_chunk)(x0, paths, cond)


@cache
def steps(loss) -> np.ndarray:
    """The gradient of the first sample at each timestep alone, [time, param] in float64."""
    tiny = make_tiny()

    def gradient(params, x, t, x0, cond):
        return step_gradient(loss(tiny.schedule, x0), tiny.eps_fn, params, x, t, cond)

    compiled, rows = jax.jit(gradient), []
    for x, t in zip(tiny.paths.x[0], tiny.paths.t[0], strict=True):
        g = compiled(tiny.params, x, t, tiny.x0[0], tiny.cond[0])
        leaves = jax.tree.leaves(select(g).params)
        rows.append(np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in leaves]))
    return np.stack(rows)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("loss", [dsm, dps])
def test_sum_over_time_is_the_sum_of_steps(tiny, loss, normalise, form):
    rows = steps(loss)
    assert len(rows) == 9
    total = (rows / np.linalg.norm(rows, axis=1, keepdims=True) if normalise else rows).sum(0)
    ours = features(tiny, loss, normalise=normalise, form=form)[0]
    assert np.linalg.norm(ours - total) <= 1e-5 * np.linalg.norm(total)


@cache
def sums_of_a_part(loss, normalise, time_chunk):
    """Features over all parameters but ``final``: by the reference, or both sums (None)."""
    tiny = make_tiny()
    part = select(tiny.params, exclude=("final/*",))

    def layers_fn(params, taps, x, t, cond):
        return tiny.layers_fn(part.merge(params, part.others), taps, x, t, cond)

    def eps_fn(params, x, t, cond):
        return tiny.eps_fn(part.merge(params, part.others), x, t, cond)

    def one(x0, path, cond):
        if normalise is None:
            args = loss(tiny.schedule, x0), layers_fn, part.params, path, cond
            return path_gradients(*args, normalise=[False, True], time_chunk=time_chunk)
        args = loss(tiny.schedule, x0), eps_fn, part.params, path, cond
        return [sample_gradient(*args, normalise=normalise)]

    found = jax.jit(jax.vmap(one))(tiny.x0, tiny.paths, tiny.cond)
    return [flatten_samples(sums) for sums in found]


@pytest.mark.parametrize(
    ("loss", "time_chunk"),
    [
        (dsm, None),
        (dps, 3),
        pytest.param(dsm, 3, marks=pytest.mark.slow),
        pytest.param(dps, None, marks=pytest.mark.slow),
    ],
)
def test_both_sums_at_once_are_the_two_sums(loss, time_chunk):
    both = sums_of_a_part(loss, None, time_chunk)
    for normalise, sums in zip((False, True), both, strict=True):
        (expected,) = sums_of_a_part(loss, normalise, None)
        error = jnp.linalg.norm(sums - expected, axis=1)
        assert float((error / jnp.linalg.norm(expected, axis=1)).max()) <= 1e-5


def test_norms_of_many_rows_are_taken_from_the_gradient(monkeypatch):
    """Both sides of the choice in step_norms, against the gradients written out."""
    rng = np.random.default_rng(0)
    for rows in (3, 50):
        a = rng.standard_normal((2, rows, 6)).astype(np.float32)
        d = rng.standard_normal((2, rows, 5)).astype(np.float32)
        b = rng.standard_normal((2, 5)).astype(np.float32)
        layers = Layers({"l/kernel": a}, {"l/kernel": d}, {"l/bias": b})
        kernel = np.einsum("tri,tro->tio", a.astype(np.float64), d)
        expected = np.sqrt((kernel**2).sum((1, 2)) + (b.astype(np.float64) ** 2).sum(1))
        np.testing.assert_allclose(step_norms(layers), expected, rtol=1e-5)


def test_a_layer_used_twice_keeps_its_plain_gradient(tiny):
    """Its kernel is then no product of one input and one cotangent."""

    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x, t, cond):
            shared = nn.Dense(x.shape[-1], name="shared")
            return shared(nn.silu(shared(x))) + nn.Dense(x.shape[-1], name="once")(cond)[None, None]

    network: Any = Twice()
    x, t, cond = tiny.paths.x[0], tiny.paths.t[0], tiny.cond[0]
    params = network.init(jax.random.key(0), x[0], t[0], cond)["params"]
    part = select(params)
    layers_fn = layers_fn_of(network, tiny.schedule, "eps")
    args = dsm(tiny.schedule, tiny.x0[0]), Path(x, t), cond

    def by_layers(params, taps, x, t, cond):
        return layers_fn(part.merge(params, {}), taps, x, t, cond)

    def eps_fn(params, x, t, cond):
        return by_layers(params, {}, x, t, cond).eps

    loss, path, cond = args

    @jax.jit
    def both(params):
        (ours,) = path_gradients(loss, by_layers, params, path, cond, normalise=[True])
        return ours, sample_gradient(loss, eps_fn, params, path, cond, normalise=True)

    ours, plain = both(part.params)
    chex.assert_trees_all_close(ours, plain, rtol=1e-4, atol=1e-6)
    assert set(by_layers(part.params, {}, x[0], t[0], cond).outputs) == {"once"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("time_chunk", "normalise"),
    [
        (1, False),
        (3, True),
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in ((1, True), (3, False))),
        *(pytest.param(9, normalise, marks=pytest.mark.slow) for normalise in (False, True)),
    ],
)
def test_time_chunks_do_not_change_a_feature(tiny, time_chunk, normalise, form):
    whole = features(tiny, dps, normalise=normalise)
    parts = features(tiny, dps, normalise=normalise, time_chunk=time_chunk, form=form)
    assert float(jnp.linalg.norm(whole - parts)) <= 1e-5 * float(jnp.linalg.norm(whole))


@pytest.mark.parametrize("form", FORMS)
def test_batch_size_and_order_do_not_change_a_feature(tiny, form):
    whole = features(tiny, dps, normalise=True, form=form)
    turned = features(tiny, dps, normalise=True, form=form, samples=jnp.array([2, 0, 1]))
    alone = features(tiny, dps, normalise=True, form=form, samples=jnp.array([1]))
    for other, row in ((turned[0], 2), (turned[2], 1), (alone[0], 1)):
        assert float(jnp.linalg.norm(whole[row] - other)) <= 1e-5 * float(
            jnp.linalg.norm(whole[row])
        )


def test_bad_time_chunk_names_the_good_ones(tiny):
    with pytest.raises(ValueError, match=r"time_chunk=4 must divide the 9 .*\[1, 3, 9\]"):
        features(tiny, dps, normalise=True, time_chunk=4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [1e-12, 1e6])
def test_normalisation_removes_positive_constants(tiny, scale, form):
    plain = features(tiny, dps, normalise=True)
    scaled = features(tiny, lambda s, x0: dps(s, x0, scale), normalise=True, form=form)
    np.testing.assert_allclose(plain, scaled, atol=2e-5)


def test_unit_or_zero():
    tree = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([[4.0]])}
    assert float(global_norm(unit_or_zero(tree))) == pytest.approx(1.0)
    zero = jax.tree.map(jnp.zeros_like, tree)
    assert float(global_norm(unit_or_zero(zero))) == 0.0


@pytest.mark.parametrize("form", FORMS)
def test_a_sample_without_gradient_stays_zero(tiny, form):
    def zero(schedule, x0):
        return lambda step: jnp.zeros_like(step.eps)

    assert float(jnp.abs(features(tiny, zero, normalise=True, form=form)).max()) == 0.0


def test_selection_splits_and_merges(tiny):
    part = select(tiny.params, include=("*attn*", "final/*"), exclude=("*bias",))
    assert all("attn" in n or n.startswith("final/") for n in part.params)
    assert not any(n.endswith("bias") for n in part.params)
    assert not part.params.keys() & part.others.keys()
    assert part.size == sum(leaf.size for leaf in part.params.values())
    merged = part.merge(jax.tree.map(jnp.zeros_like, part.params), part.others)
    assert float(jnp.abs(merged["block_0"]["attn"]["qkv"]["kernel"]).max()) == 0.0
    np.testing.assert_array_equal(
        merged["block_0"]["mlp"]["w12"]["kernel"], tiny.params["block_0"]["mlp"]["w12"]["kernel"]
    )


def test_gradient_of_a_selection_is_the_part_of_the_whole(tiny):
    part = select(tiny.params, include=("*attn*",))

    def eps_fn(chosen, x, t, cond):
        return tiny.eps_fn(part.merge(chosen, part.others), x, t, cond)

    args = (tiny.paths.x[0, 4], tiny.paths.t[0, 4], tiny.cond[0])
    loss = dps(tiny.schedule, tiny.x0[0])
    gradient = jax.jit(step_gradient, static_argnums=(0, 1))
    whole = select(gradient(loss, tiny.eps_fn, tiny.params, *args), include=("*attn*",))
    ours = gradient(loss, eps_fn, part.params, *args)
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


def test_a_dps_step_costs_a_forward_and_two_backwards():
    """Compiled operations within 10% of forward + backward to x + backward to theta, each counted
    alone by the same compiler; the width at which matmuls, not elementwise work, set the count."""
    schedule = schedules.linear()
    network = DiT(width=64, depth=2, heads=4, patch=4)
    params = random_params(network, SHAPE, 4)
    eps_fn = eps_fn_of(network, schedule, "eps")
    x, x0, cond, u = (jnp.ones(s) for s in (SHAPE, SHAPE, (4,), SHAPE))
    t, loss = jnp.int32(500), dps(schedule, x0)

    def forward(params, x):
        return eps_fn(params, x, t, cond)

    def back_to_x(params, x):
        return jax.vjp(lambda x: forward(params, x), x)[1](u)

    def back_to_params(params, x):
        return jax.vjp(lambda p: forward(p, x), params)[1](u)

    def step(params, x):
        return step_gradient(loss, eps_fn, params, x, t, cond)

    def plain_sum(params, x):
        path = Path(x[None], t[None])
        return sample_gradient(loss, eps_fn, params, path, cond, normalise=False)

    def by_layers(params, x):
        part = select(params)

        def layers_fn(chosen, taps, x, t, cond):
            shown = layers_fn_of(network, schedule, "eps")
            return shown(part.merge(chosen, {}), taps, x, t, cond)

        path = Path(x[None], t[None])
        return path_gradients(loss, layers_fn, part.params, path, cond, normalise=[True])

    once = _flops(forward, params, x)
    bound = _flops(back_to_x, params, x) + _flops(back_to_params, params, x) - once
    for form in (step, plain_sum, by_layers):
        assert 0.9 * bound <= _flops(form, params, x) <= 1.10 * bound, form.__name__


def test_linearise_pulls_back_through_the_network(tiny):
    x, t, cond = tiny.paths.x[0, 4], tiny.paths.t[0, 4], tiny.cond[0]
    u = jax.random.normal(jax.random.key(0), x.shape)
    direct = jax.grad(lambda x: jnp.vdot(u, tiny.eps_fn(tiny.params, x, t, cond)))(x)
    pulled = linearise(tiny.eps_fn, tiny.params, x, t, cond).pull_x(u)
    np.testing.assert_allclose(pulled, direct, rtol=1e-4, atol=1e-6)
