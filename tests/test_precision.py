"""Which product of the method is asked with which precision: read from the lowered programs."""

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax import schedule as schedules
from ctrak_jax.attribution import (
    Network,
    QueryBatch,
    QueryRecipe,
    Recipe,
    TrainBatch,
    Weights,
    differentiable,
    query_features,
    train_features,
)
from ctrak_jax.attribution.query import mixtures
from ctrak_jax.fisher import normal_product, outer
from ctrak_jax.fisher.direct import cholesky, dual
from ctrak_jax.fisher.gram import Gram
from ctrak_jax.fisher.rows import inner
from ctrak_jax.gradient.layers import Layers, assemble, step_norms
from ctrak_jax.methods import METHODS, concept_trak
from ctrak_jax.models import DiT
from ctrak_jax.models.denoiser import Compute, Denoiser, denoiser_of
from ctrak_jax.precision import GIVEN, MEANINGS, POLICIES, MatmulPolicy, described, policy_of
from ctrak_jax.projection import KINDS, Projection, project, project_leaves
from ctrak_jax.score import influence
from ctrak_jax.trajectory import grid, invert
from tests.tiny import COND, SHAPE, random_params

LEVELS = ("default", "high", "highest")
NETWORK = DiT(width=16, depth=1, heads=2, patch=4)
SCHEDULE = schedules.linear()
GRID = grid(steps=4, every=2)
PROJECTION = Projection(64, "srht")


def denoiser(policy: MatmulPolicy) -> Denoiser:
    params = random_params(NETWORK, SHAPE, COND)
    return denoiser_of(NETWORK, params, SCHEDULE, "eps", Compute(precision=policy))


def network(policy: MatmulPolicy) -> tuple[Network, Weights]:
    made = denoiser(policy)
    return differentiable(
        made.eps_fn,
        made.params,
        layers_fn=made.layers_fn,
        exact_fn=made.exact_fn,
        precision=made.precision,
    )


def words(fn: Callable[..., Any], *args: Any) -> Counter[str]:
    """How many products of the lowered program are asked with each word."""
    text = jax.jit(fn).lower(*args).as_text(dialect="hlo")
    found: Counter[str] = Counter()
    for line in text.splitlines():
        if re.search(r"= \S+ (dot|convolution)\(", line):
            said = re.search(r"operand_precision=\{(\w+),(\w+)\}", line)
            assert said is None or said[1] == said[2]
            found[said[1] if said else "default"] += 1
    return found


def batch() -> TrainBatch:
    cond = jnp.eye(COND)[:2]
    return TrainBatch(jnp.ones((2, *SHAPE)), cond, jnp.arange(2), cond[:, None][::-1])


def featurized(policy: MatmulPolicy) -> Counter[str]:
    """Of the features of training samples by normalised dps gradients on guided inversions."""
    found, params = network(policy)
    recipe = Recipe(schedule=SCHEDULE, grid=GRID, projection=PROJECTION, guidance=2.0)
    spec = concept_trak("inversion", "own").train
    assert spec is not None
    return words(lambda w, b: train_features(recipe, found, w, [spec], b).features, params, batch())


def inverted(policy: MatmulPolicy) -> Counter[str]:
    """Of one of their inversions' programs alone."""
    made, given = denoiser(policy), batch()

    def one(params, x0, cond):
        return invert(made.exact_fn, params, SCHEDULE, GRID, x0, cond).x

    return words(jax.vmap(one, (None, 0, 0)), made.params, given.x0, given.cond)


def test_products_of_features_are_asked_with_the_policys_words():
    """All of the inversion with one word, all of the mathematics with highest, the rest with the
    other: no product is left to the device."""
    plain, alone = featurized(GIVEN), inverted(GIVEN)
    assert set(plain) == {"default", "highest"}
    assert set(alone) == {"default"}
    mathematics, differences = plain["highest"], alone["default"]
    gradients = plain["default"] - differences
    assert min(mathematics, differences, gradients) > 5
    for policy in {p for group in POLICIES.values() for p in group.values()} - {GIVEN}:
        wanted: Counter[str] = Counter({"highest": mathematics})
        wanted[policy.gradients or "default"] += gradients
        wanted[policy.differences or "default"] += differences
        assert featurized(policy) == wanted, policy
        assert set(inverted(policy)) == {policy.differences}


def test_a_policy_outranks_the_context_it_is_traced_in():
    for policy in (MatmulPolicy("default", "high"), MatmulPolicy("highest", "highest")):
        before = featurized(policy)
        with jax.default_matmul_precision("bfloat16"):
            assert featurized(policy) == before


def test_the_concepts_difference_is_taken_with_the_word_for_differences():
    """Of a slider on forward noising of the image, where nothing is inverted: the two predictions
    under the concept and without it alone have that word."""
    spec = METHODS["concept-trak"].query
    assert spec is not None
    specs = [spec._replace(path="forward")]
    recipe = QueryRecipe(schedule=SCHEDULE, grid=GRID, projection=PROJECTION)
    cond = np.eye(COND, dtype=np.float32)
    minus = mixtures([[cond[1:2]]])
    asked = QueryBatch(jnp.ones((1, *SHAPE)), cond[:1], minus, jnp.arange(1))

    def found(policy: MatmulPolicy) -> Counter[str]:
        made, params = network(policy)
        return words(lambda w, b: query_features(recipe, made, w, specs, b), params, asked)

    one = sum(inverted(GIVEN).values())  # the network once
    mixed, plain = found(MatmulPolicy("default", "high")), found(MatmulPolicy("high", "high"))
    assert mixed["high"] == 2 * one
    assert mixed["default"] > one
    assert plain["default"] == 0


@pytest.mark.parametrize("kind", [*KINDS, "factored"])
def test_every_projection_is_exact_whatever_the_context(kind):
    projection = Projection(64, kind, implementation="xla")
    leaves = {"kernel": jnp.ones((2, 16, 8)), "bias": jnp.ones((2, 8))}
    with jax.default_matmul_precision("default"):
        if kind == "factored":
            found = words(partial(project_leaves, projection=projection), leaves)
        else:
            found = words(partial(project, projection=projection), jnp.ones((2, 200)))
    assert set(found) == (set() if kind in ("mask", "sjlt") else {"highest"})


def test_the_other_products_of_the_mathematics_are_exact_whatever_the_context():
    phi, z, right = jnp.ones((5, 32)), jnp.ones((3, 32)), jnp.ones((3, 32))
    tall, wide = (
        Layers({"w": jnp.ones((2, n, 4))}, {"w": jnp.ones((2, n, 3))}, {"b": jnp.ones((2, 3))})
        for n in (2, 50)
    )
    with jax.default_matmul_precision("default"):
        found = {
            "gram": words(lambda f: outer(None, f), phi),
            "product": words(normal_product, z, phi),
            "inner": words(inner, z, phi),
            "primal": words(lambda g, p: cholesky(Gram(g, jnp.int32(5)), p, [0.1]), jnp.eye(32), z),
            "dual": words(lambda f, p: dual(f, p, [0.1]), phi, right),
            "scores": words(influence, phi, z),
            "norms by equation (4.5)": words(step_norms, tall),
            "norms by the product": words(step_norms, wide),
        }
    assert {name for name, count in found.items() if set(count) != {"highest"}} == set()
    # What has no large sum in it, the weights by the gradients of a bias, is exact too.
    assert words(assemble, tall, jnp.ones(2)) == Counter({"default": 1, "highest": 1})


def test_every_word_is_at_least_as_exact_as_the_one_before():
    """By the words, and by what they mean: the least of a policy of larger name is no less."""
    rank = {level: place for place, level in enumerate(LEVELS)}
    for backend in ("gpu", "tpu"):
        policies = [policy_of(level, backend) for level in LEVELS]
        assert len(set(policies)) == 3, "three settings, three programs"
        assert all(policy.gradients and policy.differences for policy in policies)
        ranks = [
            (rank[p.gradients or "default"], rank[p.differences or "default"]) for p in policies
        ]
        assert all(gradients <= differences for gradients, differences in ranks)
        for one, two in pairwise(ranks):
            assert all(a <= b for a, b in zip(one, two, strict=True))
        assert ranks[-1] == (2, 2)


def test_nothing_changes_on_a_cpu():
    """The functions are the network's own, and one serves both."""
    for level in LEVELS:
        assert policy_of(level, "cpu") == GIVEN
        assert set(described(level, "cpu").values()) == {level, "float32"}
    made = denoiser(policy_of("high", "cpu"))
    assert made.exact_fn is made.eps_fn
    assert not policy_of("default", "gpu").mixed, "TF32 throughout is one program on a GPU too"


def test_a_word_means_what_the_device_makes_of_it():
    assert described("default", "gpu") == {
        "setting": "default",
        "gradients": "TF32",
        "differences": "TF32",
        "mathematics": "float32",
    }
    assert described("default", "tpu")["differences"] == "3 bfloat16 passes"
    assert described("high", "another")["differences"] == "highest"
    assert {backend: set(words) for backend, words in MEANINGS.items()} == {
        backend: set(LEVELS) for backend in POLICIES
    }
