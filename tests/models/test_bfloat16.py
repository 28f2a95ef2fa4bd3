"""The diffusion transformer in bfloat16: what is float32, and what is left of features."""

from collections import Counter
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ctrak_jax import schedule as schedules
from ctrak_jax.attribution import Recipe, TrainBatch, differentiable, train_features
from ctrak_jax.config import Config
from ctrak_jax.methods import METHODS, concept_trak
from ctrak_jax.models import DiT
from ctrak_jax.models.denoiser import Compute, Denoiser, denoiser_of
from ctrak_jax.projection import Projection
from ctrak_jax.run.keys import settings_of
from ctrak_jax.trajectory import Guidance, grid, invert
from tests.tiny import COND, SHAPE, random_params

SCHEDULE = schedules.linear()
GRID = grid(steps=4, every=2)
NETWORK = DiT(width=32, depth=2, heads=2, patch=4)
X, T, C = jnp.ones(SHAPE), jnp.int32(500), jnp.eye(COND)[0]


@cache
def bfloat16() -> Denoiser:
    params = random_params(NETWORK, SHAPE, COND)
    network = NETWORK.clone(dtype=jnp.bfloat16)
    return denoiser_of(network, params, SCHEDULE, "eps", Compute(dtype="bfloat16"))


def operands(fn: Any, *args: Any, of: str = "dot_general") -> Counter[str]:
    """The widest dtypes of what the operations of a kind in a program take."""
    lines = [line for line in jax.jit(fn).lower(*args).as_text().splitlines() if f".{of} " in line]
    taken = [line.split(" : ")[-1].split("->")[0] for line in lines]
    return Counter("f32" if "xf32>" in types else "bf16" for types in taken)


def test_all_products_of_a_pass_take_bfloat16():
    made = bfloat16()
    assert operands(made.eps_fn, made.params, X, T, C).keys() == {"bf16"}
    assert "f32" in operands(made.eps_fn, made.params, X, T, C, of="exponential"), "the softmax"
    assert operands(made.eps_fn, made.params, X, T, C, of="rsqrt").keys() == {"f32"}, "the norms"
    assert made.eps_fn(made.params, X, T, C).dtype == jnp.bfloat16
    assert made.layers_fn(made.params, {}, X, T, C).eps.dtype == jnp.bfloat16

    def pulled(params):
        eps, pull = jax.vjp(lambda p: made.eps_fn(p, X, T, C), params)
        return pull(eps)[0]

    # The softmax gives its cotangent in float32: two products of it a block.
    back = operands(pulled, made.params)
    assert back["f32"] == 2 * NETWORK.depth
    assert back["bf16"] > 10 * NETWORK.depth
    both = jax.tree.leaves((made.params, jax.eval_shape(pulled, made.params)))
    dtypes = {leaf.dtype for leaf in both}
    assert dtypes == {jnp.dtype("float32")}


def test_inversion_and_guidance_are_float32():
    made, other = bfloat16(), jnp.eye(COND)[1]

    def inverted(params):
        guidance = Guidance(3.0, other)
        return invert(made.exact_fn, params, SCHEDULE, GRID, X, C, guidance=guidance).x

    plain = denoiser_of(NETWORK, made.params, SCHEDULE, "eps").eps_fn(made.params, X, T, C)
    assert operands(inverted, made.params).keys() == {"f32"}
    np.testing.assert_array_equal(made.exact_fn(made.params, X, T, C), plain)
    assert float(jnp.abs(made.eps_fn(made.params, X, T, C) - plain).max()) > 1e-4


def test_gradients_keep_their_direction():
    """The gradients of three methods, unprojected: a relative error of some 2^-8 of a product with
    bfloat16 operands turns none of them by much."""
    wanted = METHODS["trak"], METHODS["d-trak"], concept_trak("inversion", "own")
    specs = [method.train for method in wanted if method.train is not None]
    batch = TrainBatch(
        jax.random.uniform(jax.random.key(0), (4, *SHAPE), minval=-1.0),
        jnp.eye(COND)[jnp.arange(4) % COND],
        jnp.arange(4),
        jnp.eye(COND)[(jnp.arange(4) + 1) % COND][:, None],
    )

    def features(made: Denoiser) -> jax.Array:
        found, params = differentiable(
            made.eps_fn, made.params, layers_fn=made.layers_fn, exact_fn=made.exact_fn
        )
        projection = Projection(4096, "srht")
        recipe = Recipe(schedule=SCHEDULE, grid=GRID, projection=projection, guidance=2.0)
        step = partial(train_features, recipe, found)
        return jax.jit(lambda w, b: step(w, specs, b))(params, batch).features

    exact = denoiser_of(NETWORK, bfloat16().params, SCHEDULE, "eps")
    ours, theirs = features(bfloat16()), features(exact)
    assert ours.dtype == jnp.float32
    norms = jnp.linalg.norm(ours, axis=2) * jnp.linalg.norm(theirs, axis=2)
    cosines = (ours * theirs).sum(2) / norms
    assert float(cosines.min()) > 0.995
    assert float(jnp.abs(ours - theirs).max()) > 0, "or nothing was computed in bfloat16"


def test_a_model_does_not_depend_on_the_dtype_of_its_attribution():
    other = Config.model_validate({"model": {"dtype": "bfloat16"}})
    assert settings_of(other, "model") == settings_of(Config(), "model")
    assert settings_of(other, "features") != settings_of(Config(), "features")
