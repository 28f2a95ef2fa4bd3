"""The optimiser's split: Muon moves hidden matrices, Adam the conditioning path and the vectors."""

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ctrak_jax.models import DiT, create
from ctrak_jax.models.dit import attend
from ctrak_jax.models.rows import one_product_a_layer
from ctrak_jax.models.training import OptimizerSpec, optimizer, trainer_of


def _leaves() -> Any:
    return {
        "condition_embedding": {"kernel": jnp.zeros((4, 8)), "bias": jnp.zeros(8)},
        "block_0": {
            "modulation": {"kernel": jnp.zeros((8, 48))},
            "mlp": {"w3": {"kernel": jnp.zeros((8, 8)), "bias": jnp.zeros(8)}},
        },
    }


def _first_update(learning_rate: float, adam_learning_rate: float) -> Any:
    rule = optimizer(OptimizerSpec(10, learning_rate, adam_learning_rate, warmup=0))
    params = _leaves()
    gradient = jax.tree.map(lambda p: jnp.arange(p.size, dtype=p.dtype).reshape(p.shape), params)
    return rule.update(gradient, rule.init(params), params)[0]


def test_who_moves_what():
    slow, fast_muon = _first_update(1e-3, 1e-3), _first_update(2e-3, 1e-3)
    ratio = jax.tree.map(lambda a, b: float(jnp.abs(b).max() / jnp.abs(a).max()), slow, fast_muon)
    assert ratio["block_0"]["mlp"]["w3"]["kernel"] == pytest.approx(2.0)
    ratio["block_0"]["mlp"]["w3"]["kernel"] = 1.0
    assert all(r == pytest.approx(1.0) for r in jax.tree.leaves(ratio))


def test_adam_moves_embeddings_by_its_own_rate():
    one, three = (_first_update(1e-2, r)["condition_embedding"]["kernel"] for r in (1e-3, 3e-3))
    np.testing.assert_allclose(three, 3.0 * one, rtol=1e-5)
    # Adam's first step has one length wherever the gradient is not tiny: it is no Muon step.
    np.testing.assert_allclose(one.ravel()[8:], one.ravel()[-1], rtol=1e-3)


def test_warmup_longer_than_the_run_is_shortened():
    rule = optimizer(OptimizerSpec(3, 1.0, 1.0, "adamw", warmup=100))
    params = {"a": jnp.ones(3)}
    state = rule.init(params)
    sizes = []
    for _ in range(3):
        update, state = rule.update({"a": jnp.ones(3)}, state, params)
        sizes.append(float(jnp.abs(cast(Any, update)["a"]).max()))
    assert max(sizes) > 0.5


@pytest.mark.parametrize("scan", [True, False])
def test_one_program_trains_from_every_key_as_one_made_for_it(scan):
    """The loss is the difference to a random number, so every number of a training is its key's."""
    traced = []

    def loss(params: Any, key: Any, x: Any) -> Any:
        traced.append(key)
        return (params["a"] - x - jax.random.normal(key)) ** 2

    def trained(program: Any, seed: int) -> float:
        # The state's memory is used up, and its parts start as one array.
        state = jax.tree.map(jnp.copy, program.init({"a": jnp.float32(0)}))
        key = jax.random.key_data(jax.random.key(seed))
        return float(program.run(state, key, jnp.arange(12.0).reshape(3, 4)).state.params["a"])

    rule = optax.sgd(0.1)
    shared = trainer_of(loss, rule, ema=0.9, scan=scan)
    first = trained(shared, 0)
    count = len(traced)
    others = [trained(shared, seed) for seed in (1, 2)]
    assert len(traced) == count
    assert len({first, *others}) == 3
    for seed, found in enumerate((first, *others)):
        assert found == trained(trainer_of(loss, rule, ema=0.9, scan=scan), seed)
        a = 0.0
        for step in range(3):
            keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), step), 4)
            drawn = np.array([jax.random.normal(key) for key in keys], np.float64)
            a -= 0.1 * np.mean(2 * (a - np.arange(4 * step, 4 * step + 4) - drawn))
        assert found == pytest.approx(a, rel=1e-5)


def test_layers_over_a_batch_are_one_product():
    network = DiT(width=16, depth=1, heads=2, patch=4)
    shape, batch = (8, 8, 3), 3
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + 0.1 * rng.standard_normal(leaf.shape, np.float32),
        create(network, shape, 2, 0),
    )
    x, t = jnp.asarray(rng.standard_normal((batch, *shape), np.float32)), jnp.arange(batch)
    cond = jnp.asarray(rng.standard_normal((batch, 2), np.float32))

    def loss(params: Any) -> Any:
        apply = jax.vmap(lambda x, t, c: network.apply({"params": params}, x, t, c))
        return jnp.mean(cast(Any, apply(x, t, cond)) ** 2)

    def together(params: Any) -> Any:
        with one_product_a_layer():
            return loss(params)

    plain, flat = jax.grad(loss)(params), jax.grad(together)(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), plain, flat)

    def over_two_axes(fn: Any) -> int:
        # The kernels' gradients are products over image and token where nothing is done about it.
        products = [
            equation.params["dimension_numbers"]
            for equation in jax.make_jaxpr(jax.grad(fn))(params).eqns
            if equation.primitive is jax.lax.dot_general_p
        ]
        return sum(len(contracted) > 1 for (contracted, _), _ in products)

    assert over_two_axes(loss) > 0
    assert over_two_axes(together) == 0


def test_a_layer_of_another_kind_or_precision_is_left_alone():
    x = jnp.ones((2, 3, 4))
    for layer in (nn.Dense(5, dtype=jnp.bfloat16), nn.DenseGeneral((5, 2))):
        params = layer.init(jax.random.key(0), x[0])
        plain = jax.vmap(lambda x, layer=layer, params=params: layer.apply(params, x))(x)
        with one_product_a_layer():
            watched = jax.vmap(lambda x, layer=layer, params=params: layer.apply(params, x))(x)
        assert cast(Any, watched).dtype == cast(Any, plain).dtype
        np.testing.assert_array_equal(cast(Any, watched), cast(Any, plain))


def test_attention_is_the_softmax_of_all_pairs():
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, 6, 2, 4))
    for size in (1.0, 1e4):  # the second one overflows where the largest score is not taken off
        scores = np.einsum("qhd,khd->hqk", size * q, k)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        wanted = np.einsum("hqk,khd->qhd", weights, v)
        found = attend(*(jnp.asarray(a, jnp.float32) for a in (size * q, k, v)))
        np.testing.assert_allclose(found, wanted, atol=1e-4)
