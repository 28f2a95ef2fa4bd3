"""Low-rank adapters: what they compute, what is selected, that they learn."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ctrak_jax import schedule as schedules
from ctrak_jax.errors import UsageError
from ctrak_jax.gradient import parameter_paths, path_gradients, sample_gradient, select
from ctrak_jax.models import DiT
from ctrak_jax.models.denoiser import eps_fn_of, layers_fn_of
from ctrak_jax.models.lora import PATTERN, Adapted, add_adapters, merge_adapters, train_adapters
from ctrak_jax.reward import dps
from tests.tiny import COND, SHAPE, random_params

NETWORK = DiT(width=16, depth=1, heads=2, patch=4)
SCHEDULE = schedules.linear()
SCALE = 0.5


@pytest.fixture(scope="module")
def params():
    return add_adapters(random_params(NETWORK, SHAPE, COND), ["*attn*"], 2, jax.random.key(1))


@pytest.fixture(scope="module")
def moved(params):
    """Adapters that do something."""

    def one(path, leaf):
        name = jax.tree_util.keystr(path)
        return jax.random.normal(jax.random.key(2), leaf.shape) if "lora_b" in name else leaf

    return jax.tree_util.tree_map_with_path(one, params)


def predict(network, params, tiny, sample=0, time=4):
    eps_fn = eps_fn_of(network, SCHEDULE, "eps")
    x, t = tiny.paths.x[sample, time], tiny.paths.t[sample, time]
    return jax.jit(eps_fn)(params, x, t, tiny.cond[sample])


def test_paths_and_shapes(params):
    layers = ("block_0/attn/proj", "block_0/attn/qkv")
    adapters = select(params, (PATTERN,)).params
    assert set(adapters) == {f"{layer}/lora_{x}" for layer in layers for x in "ab"}
    assert adapters["block_0/attn/qkv/lora_a"].shape == (16, 2)
    assert adapters["block_0/attn/qkv/lora_b"].shape == (2, 48)
    assert parameter_paths(merge_adapters(params, SCALE)) == parameter_paths(
        random_params(NETWORK, SHAPE, COND)
    )


def test_fresh_adapters_change_nothing(params, tiny):
    own = merge_adapters(params, SCALE)
    expected = predict(NETWORK, own, tiny)
    found = predict(Adapted(NETWORK, SCALE), params, tiny)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_adapters_are_the_merged_kernel(moved, tiny):
    expected = predict(NETWORK, merge_adapters(moved, SCALE), tiny)
    found = predict(Adapted(NETWORK, SCALE), moved, tiny)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    plain = predict(NETWORK, merge_adapters(moved, 0.0), tiny)
    assert float(jnp.abs(found - plain).max()) > 0.01


def test_gradients_of_adapters_are_those_of_the_merged_kernel(moved, tiny):
    """By the chain rule: dA = s dW B^T and dB = s A^T dW, in both forms of the gradient."""
    network = Adapted(NETWORK, SCALE)
    part = select(moved, (PATTERN,))
    eps, shown = eps_fn_of(network, SCHEDULE, "eps"), layers_fn_of(network, SCHEDULE, "eps")
    path = jax.tree.map(lambda leaf: leaf[0], tiny.paths)

    def eps_fn(p, x, t, cond):
        return eps(part.merge(p, part.others), x, t, cond)

    def layers_fn(p, taps, x, t, cond):
        return shown(part.merge(p, part.others), taps, x, t, cond)

    loss, cond = dps(SCHEDULE, tiny.x0[0]), tiny.cond[0]
    gradient = jax.jit(partial(sample_gradient, normalise=False), static_argnums=(0, 1))
    plain = gradient(loss, eps_fn, part.params, path, cond)
    by_layer = jax.jit(partial(path_gradients, normalise=[False]), static_argnums=(0, 1))
    (by_layers,) = by_layer(loss, layers_fn, part.params, path, cond)
    merged = merge_adapters(moved, SCALE)
    whole = gradient(loss, eps_fn_of(NETWORK, SCHEDULE, "eps"), merged, path, cond)
    for layer in ("qkv", "proj"):
        dw = whole["block_0"]["attn"][layer]["kernel"]
        name = f"block_0/attn/{layer}"
        a, b = (part.params[f"{name}/lora_{x}"] for x in "ab")
        expected = {f"{name}/lora_a": SCALE * dw @ b.T, f"{name}/lora_b": SCALE * a.T @ dw}
        for key, value in expected.items():
            for found in (plain[key], by_layers[key]):
                error = jnp.linalg.norm(found - value) / jnp.linalg.norm(value)
                assert float(error) <= 1e-4


def test_training_moves_the_adapters_alone_and_lowers_the_loss():
    """Two flat images: better than predicting zero, which costs 1, as far as rank 2 goes."""
    params = add_adapters(random_params(NETWORK, SHAPE, COND), ["*"], 2, jax.random.key(1))
    eps_fn = eps_fn_of(Adapted(NETWORK, SCALE), SCHEDULE, "eps")
    x0 = jnp.stack([jnp.full(SHAPE, value) for value in (-0.5, 0.5)])
    fitted = train_adapters(
        eps_fn,
        params,
        SCHEDULE,
        optax.adam(2e-2),
        x0,
        jnp.eye(2, COND),
        steps=200,
        batch=16,
        key=jax.random.key(0),
    )
    before, after = (select(p, ("*",), (PATTERN,)).params for p in (params, fitted.params))
    jax.tree.map(np.testing.assert_array_equal, after, before)
    for path, value in select(fitted.params, (PATTERN,)).params.items():
        assert float(jnp.abs(value - select(params, (PATTERN,)).params[path]).max()) > 0.01
    assert fitted.losses.shape == (200,)
    assert float(fitted.losses[:20].mean()) > 1.0
    assert float(fitted.losses[-20:].mean()) < 0.95


@pytest.mark.parametrize(
    ("include", "rank", "message"),
    [
        (["*cross*"], 2, r"adapters on \['\*cross\*'\]: no kernel of a linear layer matches"),
        (["*attn*"], 16, r"rank=16 of an adapter .* below the sides of block_0/attn/"),
        (["*attn*"], 0, r"rank=0 of an adapter must be at least 1"),
    ],
)
def test_adapters_that_cannot_be_are_refused(include, rank, message):
    with pytest.raises(UsageError, match=message):
        add_adapters(random_params(NETWORK, SHAPE, COND), include, rank, jax.random.key(0))
