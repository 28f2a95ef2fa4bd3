"""Paths and gradients of rectified flows by the library's functions, against PyTorch's networks in
float64 (fixtures/README.md)."""

from functools import cache
from pathlib import Path as File

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax import reward
from ctrak_jax import schedule as schedules
from ctrak_jax.gradient import sample_gradient, select
from ctrak_jax.models.denoiser import FLOAT32, eps_fn_of
from ctrak_jax.models.mmdit import load_flux, load_sd3
from ctrak_jax.models.network import TextCondition
from ctrak_jax.models.stable_diffusion import weights
from ctrak_jax.schedule import Schedule
from ctrak_jax.trajectory import Grid, Guidance, Path, grid, invert, sample
from tests.references import channels_last, difference, reference
from tests.wild import flux, sd3

CONTEXT = ("*/attn/add_[qkv]_proj/*", "*/attn/to_add_out/*")
SD3, FLUX = "sd3_dual", "flux_dev"
SCALE = 3.0
"""Of the sliders."""
SCHEDULES = {
    SD3: schedules.rectified_flow(3.0),
    FLUX: schedules.rectified_flow(schedules.flux_shift(16)),
}
ROW = 1
"""The sample."""


def folder(name: str) -> File:
    return (sd3 if name == SD3 else flux)() / name


def arrays(name: str) -> dict[str, np.ndarray]:
    return reference(folder(name).parent / f"{name}_reference.safetensors")


@cache
def network(name: str):
    """The velocity and the parameters, whose context side is differentiated."""
    load = load_sd3 if name == SD3 else load_flux
    found = load(folder(name) / "transformer", FLOAT32)
    return eps_fn_of(found.network, SCHEDULES[name], "flow"), select(found.params, CONTEXT), found


def condition(name: str, kind: str = "", row: int = ROW) -> TextCondition:
    kept = arrays(name)
    return TextCondition(
        *(jnp.asarray(kept[f"{x}{kind}"][row]) for x in ("prompt_embeds", "pooled"))
    )


def clean(name: str):
    return jnp.asarray(channels_last(arrays(name)["x0"][ROW]))


def recorded(name: str, path: str) -> Path:
    steps = grid(SCHEDULES[name].steps).recorded
    return Path(jnp.asarray(channels_last(arrays(name)[path][:, ROW])), jnp.asarray(steps))


@pytest.mark.parametrize("name", [SD3, FLUX])
def test_the_levels(name):
    steps = grid(SCHEDULES[name].steps)
    np.testing.assert_allclose(
        SCHEDULES[name].noise[steps.times], arrays(name)["grid_sigmas"], atol=1e-7
    )


@pytest.mark.parametrize(
    ("name", "stored", "scale"),
    [
        (SD3, "path_guidance_3.0", 3.0),
        (SD3, "path_guidance_1.0", None),
        (FLUX, "path_inversion", None),
    ],
)
def test_inversions(name, stored, scale):
    eps_fn, _, found = network(name)
    guidance = None if scale is None else Guidance(scale, condition(name, "_empty", 0))
    schedule = SCHEDULES[name]
    made = jax.jit(
        lambda params, x, c: invert(
            eps_fn, params, schedule, grid(schedule.steps), x, c, guidance=guidance
        )
    )(found.params, clean(name), condition(name))
    assert difference(made.x, recorded(name, stored).x) < 2e-5


def test_sampling_by_the_pipelines_levels():
    kept, (_, _, found) = arrays(SD3), network(SD3)
    levels = jnp.asarray(kept["sample/sigmas"][::-1].copy())
    schedule = Schedule(1.0 - levels, levels, True)
    last = len(levels) - 1
    steps = Grid(np.arange(last + 1), every=last, kept=0)
    made = sample(
        eps_fn_of(found.network, schedule, "flow"),
        found.params,
        schedule,
        steps,
        jnp.asarray(channels_last(kept["sample/noise"])),
        condition(SD3, row=0),
        guidance=Guidance(3.0, condition(SD3, "_empty", 0)),
    )
    assert difference(made.x0, channels_last(kept["sample/x0"])) < 2e-5


def check(name: str, path: str, loss: str, form: str, bar: float) -> None:
    eps_fn, part, found = network(name)
    losses = {
        "dsm": lambda x0, minus: reward.dsm(SCHEDULES[name], x0),
        "dps": lambda x0, minus: reward.dps(SCHEDULES[name], x0),
        "slider_3.0": lambda x0, minus: reward.slider(minus, SCALE),
        "l2": lambda x0, minus: reward.l2(),
        "l1": lambda x0, minus: reward.l1(),
    }

    def gradient(chosen, others, states, x0, cond, minus):
        return sample_gradient(
            losses[loss](x0, minus),
            lambda p, x, t, c: eps_fn(part.merge(p, others), x, t, c),
            chosen,
            states,
            cond,
            normalise=form == "normalised_sum",
        )

    stored = "path_forward" if path == "forward" else f"path_{path}"
    made = jax.jit(gradient)(
        part.params,
        part.others,
        recorded(name, stored),
        clean(name),
        condition(name),
        condition(name, "_minus"),
    )
    before = f"grad/{path}/{loss}/velocity/{form}/context/"
    kept = {key[len(before) :]: a[ROW] for key, a in arrays(name).items() if key.startswith(before)}
    wanted = weights.convert(kept, found.params)
    assert wanted.keys() == part.params.keys()
    apart = sum(np.sum((np.asarray(made[key]) - wanted[key]) ** 2) for key in wanted)
    assert np.sqrt(apart / sum(np.sum(a**2) for a in wanted.values())) < bar


@pytest.mark.parametrize(
    ("loss", "form"),
    [
        *((loss, "sum") for loss in ("dsm", "l2", "l1")),
        *((loss, "normalised_sum") for loss in ("dps", "slider_3.0")),
    ],
)
def test_gradients_of_stable_diffusion_3(loss, form):
    """By the velocity, which dsm, l2 and l1 are losses of."""
    check(SD3, "forward", loss, form, bar=2e-5)


@pytest.mark.parametrize(("path", "loss"), [("forward", "slider_3.0"), ("inversion", "dps")])
def test_gradients_of_flux(path, loss):
    check(FLUX, path, loss, "normalised_sum", bar=1e-4)
