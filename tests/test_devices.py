"""Featurization over one and two axes of devices: the same features, and who talks to whom."""

import re
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from ctrak_jax import devices
from ctrak_jax.attribution import TrainFeatures, train_features
from ctrak_jax.config import Config
from ctrak_jax.data import build
from ctrak_jax.errors import UsageError
from ctrak_jax.methods import concept_trak, train_specs
from ctrak_jax.models.architecture import dit_of
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.run.network import PlacedNetwork
from ctrak_jax.stages.context import Context
from tests.tiny import random_params

CONFIG = Config.model_validate(
    {
        "data": {"size": 40, "image_size": 8},
        "model": {"width": 32, "depth": 1, "heads": 2, "patch": 4},
        "projection": {"k": 256},
        "trajectory": {"steps": 10, "record_every": 1},
    }
)
BATCH = 16


def placed_on(count: int, model: int) -> tuple[Context, PlacedNetwork]:
    """A random network on ``count`` devices."""
    data, mesh = build(CONFIG.data), devices.local_mesh(count, model)
    folder = RunFolder(root=Path())
    ctx = Context(config=CONFIG, folder=folder, seed=0, training_set=data, dataset=data, mesh=mesh)
    params = random_params(dit_of(CONFIG.model), data.image_shape, data.conditions.size)
    return ctx, ctx.placed(ctx.architecture.denoiser(params, mesh))


def featurized(count: int, model: int) -> tuple[TrainFeatures, str]:
    """Features of three gradients by ``count`` devices, and the compiled program."""
    ctx, (network, params, placing) = placed_on(count, model)
    specs = [*train_specs(["concept-trak", "trak"]), concept_trak("inversion", "own").train]
    step = partial(train_features, ctx.recipe, network, null=ctx.inputs.null, errors=True)
    batch = ctx.samples().batch(np.arange(BATCH))
    weights = devices.put(params, ctx.mesh, placing)
    split = devices.over_samples(lambda w, b: step(w, specs, b), ctx.mesh, placing)
    compiled = split.lower(weights, batch).compile()
    return compiled(weights, batch), compiled.as_text() or ""


def collectives(program: str) -> set[str]:
    names = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute"
    return set(re.findall(rf"\b({names})(?:-start)?\(", program))


@pytest.fixture(scope="module")
def alone() -> TrainFeatures:
    return featurized(1, 1)[0]


@pytest.mark.parametrize(("model", "talk"), [(1, set()), (4, {"all-gather"})])
def test_eight_devices_give_what_one_gives(alone, model, talk):
    """Samples never meet; parameters in parts are gathered, and nothing else is sent."""
    found, program = featurized(8, model)
    for one, eight in zip(alone, found, strict=True):
        assert np.abs(np.asarray(eight) - np.asarray(one)).max() <= 1e-5 * np.abs(one).max()
    assert collectives(program) == talk


def test_kernels_are_in_parts_and_what_is_differentiated_directly_is_whole():
    ctx, (_, params, placing) = placed_on(8, 4)
    specs = placing.chosen
    parts = {path for path, spec in specs.items() if spec != PartitionSpec()}
    assert parts
    assert all(path.endswith("/kernel") for path in parts)
    weights = devices.put(params, ctx.mesh, placing).chosen
    for path, leaf in weights.items():
        held = leaf.addressable_shards[0].data.size
        assert held == (leaf.size // 4 if path in parts else leaf.size)


def test_a_backward_pass_gathers_again_instead_of_keeping_the_whole_copy():
    """Between the passes only parts of the weights are held: what the backward pass needs is read
    from the jaxpr, before the compiler."""
    mesh = devices.local_mesh(8, 4)
    shapes = {"kernel": jax.ShapeDtypeStruct((64, 32), np.float32)}

    def fn(params, x):
        return np.tanh(1.0) * (x @ params["kernel"].astype("bfloat16").astype("float32"))

    gathered = devices.gathering(fn, shapes, mesh)

    def residuals(params, x):
        _, pull = jax.vjp(lambda x: gathered(params, x), x)
        return [leaf.shape for leaf in jax.tree.leaves(pull) if hasattr(leaf, "shape")]

    kept = []

    def record(params, x):
        kept.extend(residuals(params, x))
        return x

    mapped = jax.shard_map(
        record,
        mesh=mesh,
        in_specs=({"kernel": PartitionSpec("model")}, PartitionSpec()),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    jax.eval_shape(mapped, shapes, jax.ShapeDtypeStruct((3, 64), np.float32))
    assert (16, 32) in kept
    assert (64, 32) not in kept


def test_a_model_axis_that_does_not_divide_the_devices_is_refused():
    with pytest.raises(UsageError, match=r"mesh.model=3 does not divide the 8 devices.*\[1, 2, 4"):
        devices.local_mesh(8, 3)


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((64, 30), PartitionSpec("model")),
        ((30, 64), PartitionSpec(None, "model")),
        ((30, 30), PartitionSpec()),
        ((64,), PartitionSpec()),
    ],
)
def test_a_parameter_is_split_along_its_first_axis_that_divides(shape, spec):
    assert devices.parameter_spec(shape, devices.local_mesh(8, 4)) == spec
    assert devices.parameter_spec(shape, devices.local_mesh(8)) == PartitionSpec()


@pytest.mark.parametrize("count", [1, 2])
def test_gradients_of_kernels_of_convolutions_by_image_concept_and_timestep(count):
    """What a question takes of a UNet whose convolutions are differentiated."""

    def convolved(kernel, x):
        names = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x[None], kernel, (1, 1), "SAME", dimension_numbers=names
        )

    def gradient(kernel, x, u):
        return jax.vjp(convolved, kernel, x)[1](u[None])[0]

    kernel = devices.put_for_one(np.ones((3, 3, 4, 4)), devices.local_mesh(count), devices.WHOLE)
    by_time = jax.vmap(gradient, (None, 0, 0))
    by_concept = jax.vmap(by_time, (None, None, 0))
    by_image = jax.jit(jax.vmap(by_concept, (None, 0, 0)))
    x, u = np.ones((2, 5, 8, 8, 4)), np.ones((2, 3, 5, 8, 8, 4))
    found = by_image(kernel, x, u)
    np.testing.assert_allclose(found[..., 1, 1, 0, 0], 64.0)
