"""Agreement with the published PyTorch code: tests/fixtures holds its float64 results."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from ctrak_jax import reward
from ctrak_jax import schedule as schedules
from ctrak_jax.gradient import flatten_samples, sample_gradient
from ctrak_jax.models import DiT, load_published
from ctrak_jax.models.denoiser import eps_fn_of
from ctrak_jax.models.dit import sincos_positions
from ctrak_jax.models.published import convert
from ctrak_jax.trajectory import Guidance, forward_path, grid, invert
from ctrak_jax.trajectory import Path as States
from tests.paths import FIXTURES

CHECKPOINT = FIXTURES / "dit_checkpoint.safetensors"
NETWORK = DiT(width=32, depth=2, heads=2, patch=4)
SCHEDULE = schedules.linear()
CONDITIONS = 4
EPS = eps_fn_of(NETWORK, SCHEDULE, "eps")


@cache
def reference() -> dict[str, np.ndarray]:
    merged: dict[str, np.ndarray] = {}
    for file in sorted(FIXTURES.glob("dit_[pg]*.safetensors")):
        merged |= load_file(file)
    return merged


@cache
def params():
    return load_published(NETWORK, CHECKPOINT, (16, 16, 3), CONDITIONS)


def channels_last(array: np.ndarray) -> jax.Array:
    return jnp.asarray(np.moveaxis(array, -3, -1))


def by_sample(array: np.ndarray) -> jax.Array:
    return jnp.moveaxis(channels_last(array), 0, 1)


def relative(found, expected) -> float:
    return float(jnp.linalg.norm((found - expected).ravel()) / jnp.linalg.norm(expected.ravel()))


CASES = sorted({"/".join(name.split("/")[1:4]) for name in reference() if name.startswith("grad/")})


def test_the_fixture_holds_every_loss():
    assert {case.split("/")[0] for case in CASES} == set(LOSSES)


def test_schedule_and_timesteps():
    np.testing.assert_allclose(SCHEDULE.signal**2, reference()["alphas_cumprod"], atol=1e-6)
    assert grid().recorded.tolist() == reference()["timesteps"].tolist()


def test_position_table_is_the_published_constant():
    published = load_file(CHECKPOINT)["pos_embedder"][0]
    np.testing.assert_allclose(sincos_positions(4, 32), published, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_inversion_path(scale):
    ref = reference()
    null = jnp.asarray(ref["cond_null"][0])
    guidance = None if scale == 1.0 else Guidance(scale, null)

    def one(x0, cond):
        return invert(EPS, params(), SCHEDULE, grid(), x0, cond, guidance=guidance).x

    found = jax.vmap(one)(channels_last(ref["x0"]), jnp.asarray(ref["cond"]))
    assert relative(found, by_sample(ref[f"path_guidance_{scale}"])) <= 1e-4


def test_forward_path_is_the_same_mixture():
    ref = reference()
    found = jax.vmap(
        lambda noise, x0: jax.vmap(lambda t, n: schedules.add_noise(SCHEDULE, x0, t, n))(
            jnp.asarray(ref["timesteps"], jnp.int32), noise
        )
    )(by_sample(ref["noise"]), channels_last(ref["x0"]))
    assert relative(found, by_sample(ref["path_forward"])) <= 1e-5
    ours = forward_path(SCHEDULE, channels_last(ref["x0"])[0], grid().recorded, jax.random.key(0))
    assert ours.x.shape == found[0].shape


LOSSES = ("dsm", "l2", "l1", "dps", "slider_7.5")


@cache
def gradients(normalise: bool):
    """Per-sample gradients of the loss that ``which`` points at, by one program for all of them."""

    def one(which, params, x0, cond, minus, x):
        losses = (
            reward.dsm(SCHEDULE, x0),
            reward.l2(),
            reward.l1(),
            reward.dps(SCHEDULE, x0),
            reward.slider(minus, 7.5),
        )

        def loss(step):
            return jnp.tensordot(which, jnp.stack([each(step) for each in losses]), 1)

        path = States(x, jnp.asarray(reference()["timesteps"], jnp.int32))
        return sample_gradient(loss, EPS, params, path, cond, normalise=normalise)

    return jax.jit(jax.vmap(one, (None, None, 0, 0, 0, 0)))


@pytest.mark.parametrize("case", CASES)
def test_per_sample_gradients(case):
    ref = reference()
    name, path, form = case.split("/")
    states = by_sample(ref["path_" + path.replace("inversion", "guidance")])
    which = jnp.array([float(each == name) for each in LOSSES])
    cond, minus = (jnp.asarray(ref[name]) for name in ("cond", "cond_minus"))
    fn = gradients(form == "normalised_sum")
    rows = fn(which, params(), channels_last(ref["x0"]), cond, minus, states)
    found = flatten_samples(rows)
    prefix = f"grad/{case}/"
    published = [
        convert({k.removeprefix(prefix): v[i] for k, v in ref.items() if k.startswith(prefix)})
        for i in range(2)
    ]
    expected = flatten_samples(jax.tree.map(lambda *rows: jnp.stack(rows), *published))
    assert found.shape == expected.shape
    for ours, theirs in zip(found, expected, strict=True):
        assert relative(ours, theirs) <= 1e-4
        cosine = ours @ theirs / jnp.linalg.norm(ours) / jnp.linalg.norm(theirs)
        assert float(cosine) >= 0.9999


def test_a_checkpoint_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"(?s)has shape .* wants .* set model.width"):
        load_published(
            DiT(width=64, depth=2, heads=2, patch=4), CHECKPOINT, (16, 16, 3), CONDITIONS
        )


def test_an_unknown_tensor_is_named():
    with pytest.raises(ValueError, match=r"'blocks.0.cross.weight' is not a parameter"):
        convert({"blocks.0.cross.weight": np.zeros((2, 2))})
