"""Training tokens: the loss falls to what the pictures say, by random numbers of the concept's."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax import schedule as schedules
from ctrak_jax.config import CustomiseConfig
from ctrak_jax.customise.concepts import NewConcept
from ctrak_jax.customise.training import LearnedToken, TokenTrainer
from ctrak_jax.devices import local_mesh
from ctrak_jax.errors import StoreError
from ctrak_jax.models import Denoiser
from ctrak_jax.models.stable_diffusion.textual_inversion import add_tokens
from tests.models.stable_diffusion.test_textual_inversion import encoder_of

SCHEDULE = schedules.scaled_linear()
SHAPE = (2, 2, 1)
PARAMS = {"out": 0.1 * jax.random.normal(jax.random.key(3), (2, 32))}


class Counter:
    """Counts steps."""

    steps = 0

    def __call__(self, count: int) -> None:
        self.steps += count


def value(params, cond):
    """The brightness that a text asks for."""
    return jnp.tanh(jnp.sum(params["out"] * cond[1:3]))


def eps_fn(params, x, t, cond):
    """The exact noise of a flat image of that brightness."""
    signal, sigma = schedules.level(SCHEDULE, t)
    return (x - signal * value(params, cond)) / sigma


def concept(name: str) -> NewConcept:
    return NewConcept(name, "object", (Path("1.png"),), "<x>", "abc", "<x> a", ("<x> a",))


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return encoder_of(tmp_path_factory.mktemp("tokenizer"))


def trainer(text, **changes: Any) -> TokenTrainer:
    settings = {"steps": 60, "batch": 8, "learning_rate": 3e-2, "vectors": 2} | changes
    config = CustomiseConfig.model_validate(settings)
    denoiser = Denoiser(eps_fn, lambda *_: pytest.fail("no layers"), PARAMS, eps_fn)
    return TokenTrainer(denoiser, text, SCHEDULE, config, local_mesh(1))


def brightness(text, found: LearnedToken) -> float:
    grown = add_tokens(text, {"<x>": jnp.asarray(found.rows)})
    cond = grown.network.apply(grown.params, grown.network.tokens("<x> a"))
    return float(value(PARAMS, cond))


@pytest.mark.parametrize("loss", ["velocity", "noise"])
def test_a_token_comes_to_mean_its_pictures(text, loss):
    """Both concepts by one trainer, each the picture's own brightness: any number of pictures."""
    work, bar = trainer(text, steps=120, loss=loss), Counter()
    for name, wanted, count in (("bright", 0.5, 1), ("dark", -0.5, 3)):
        found = work.train(concept(name), np.full((count, *SHAPE), wanted, np.float32), bar)
        assert found.rows.shape == (2, 32)
        assert found.after < 0.1 * found.before
        assert brightness(text, found) == pytest.approx(wanted, abs=0.1)
    assert bar.steps == 240


def test_a_concept_s_numbers_depend_on_its_name_and_the_seed_alone(text):
    latents = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)
    first = trainer(text, steps=3)
    alone = first.train(concept("one"), latents, Counter()).rows
    other = first.train(concept("two"), latents, Counter()).rows
    after = trainer(text, steps=3)
    after.train(concept("two"), latents, Counter())
    np.testing.assert_array_equal(after.train(concept("one"), latents, Counter()).rows, alone)
    seeded = trainer(text, steps=3, seed=1).train(concept("one"), latents, Counter()).rows
    assert np.abs(alone - other).max() > 1e-4
    assert np.abs(alone - seeded).max() > 1e-4


def test_a_loss_that_is_not_finite_ends_it(text):
    latents = np.full((1, *SHAPE), np.nan, np.float32)
    said = r"concept 'one': the loss is not finite before step 3"
    with jax.debug_nans(False), pytest.raises(StoreError, match=said):
        trainer(text, steps=3).train(concept("one"), latents, Counter())
