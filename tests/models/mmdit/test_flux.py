"""FLUX.1's transformer: agreement with PyTorch's class, and what must hold of it."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ctrak_jax import schedule as schedules
from ctrak_jax.errors import UsageError
from ctrak_jax.gradient import parameter_paths, select
from ctrak_jax.models.denoiser import BLOCK, FLOAT32, Compute, layers_fn_of
from ctrak_jax.models.mmdit import FluxDenoiser, flux_of, load_flux
from ctrak_jax.models.mmdit.flux import joint_angles, packed, unpacked
from ctrak_jax.models.mmdit.layers import turned
from ctrak_jax.models.network import RecastableModule, TextCondition
from ctrak_jax.models.stable_diffusion import Component
from tests.models.mmdit.test_sd3 import CONTEXT
from tests.references import EXACT, RECORDED, channels_last, difference, reference, shifted
from tests.wild import flux

DEV, SCHNELL = "flux_dev", "flux_schnell"
SHIFTS = {DEV: np.exp(0.5 + (16 - 256) * 0.65 / 3840), SCHNELL: 1.0}
MADE = {
    "num_layers": 1,
    "num_single_layers": 1,
    "num_attention_heads": 3,
    "attention_head_dim": 12,
    "axes_dims_rope": [2, 6, 4],
    "in_channels": 8,
    "out_channels": None,
    "patch_size": 1,
    "joint_attention_dim": 5,
    "pooled_projection_dim": 6,
    "guidance_embeds": True,
}
PUBLISHED = {
    "num_layers": 19,
    "num_single_layers": 38,
    "num_attention_heads": 24,
    "attention_head_dim": 128,
    "in_channels": 64,
    "patch_size": 1,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
}
"""FLUX.1-dev; its file has no axes."""


@cache
def model(name: str) -> Component[FluxDenoiser]:
    return load_flux(flux() / name / "transformer", FLOAT32, side=8)


def of(config: dict, compute: Compute = FLOAT32, **more) -> FluxDenoiser:
    return flux_of(config, flux() / "config.json", compute, **more)


@cache
def random_params():
    return jax.jit(of(MADE).init)(jax.random.key(0))


def inputs() -> tuple[jax.Array, jax.Array, TextCondition]:
    """A latent that is not square, a level and a condition for MADE."""
    rng = np.random.default_rng(0)
    x, embeddings, pooled = (
        jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((4, 8, 2), (5, 5), (6,))
    )
    return x, jnp.float32(0.37), TextCondition(embeddings, pooled)


@pytest.mark.parametrize("name", [DEV, SCHNELL])
def test_velocities_are_those_of_pytorch(name):
    """schnell is read from several files in bfloat16."""
    ref, (network, params) = reference(flux() / f"{name}_reference.safetensors"), parts(name)
    conditions = TextCondition(ref["prompt_embeds"], ref["pooled"])
    levels = jnp.asarray(shifted(RECORDED, SHIFTS[name]), jnp.float32)
    strong = replace(network, guidance=None if network.guidance is None else 1.0)

    @jax.jit
    def every(params, path, levels, conditions, wide):
        def of_samples(network, x, s):
            def one(x, c):
                return network.apply({"params": params}, x, s, c)

            return jax.vmap(one)(x, conditions)

        along = jax.vmap(lambda x, s: of_samples(network, x, s))(path, levels)
        first = jax.tree.map(lambda a: a[0], conditions)
        of_wide = network.apply({"params": params}, wide, levels[4], first)
        return along, of_wide, of_samples(strong, path[4], levels[4])

    path, wide = (channels_last(ref[key]) for key in ("path_forward", "wide/x"))
    found, found_wide, found_strong = every(params, path, levels, conditions, wide)
    for i, expected in enumerate(channels_last(ref["velocity"])):
        assert difference(found[i], expected) < EXACT, i
    assert difference(found_wide, channels_last(ref["wide/velocity"])) < EXACT
    if name == DEV:
        assert difference(found_strong, channels_last(ref["velocity_guidance_1.0"])) < EXACT


def parts(name: str):
    return model(name).network, model(name).params


@pytest.mark.parametrize("name", [DEV, SCHNELL])
def test_latents_are_packed_as_published_and_unpacked_again(name):
    ref = reference(flux() / f"{name}_reference.safetensors")
    for x, tokens in zip(channels_last(ref["x0"]), ref["x0_packed"], strict=True):
        np.testing.assert_array_equal(packed(x), tokens)
        np.testing.assert_array_equal(unpacked(tokens, 8, 8), x)
    x = np.arange(4 * 6 * 3.0).reshape(4, 6, 3)
    np.testing.assert_array_equal(unpacked(packed(x), 4, 6), x)


@pytest.mark.parametrize(("name", "columns"), [("img_ids", 4), ("wide/img_ids", 6)])
def test_tokens_turn_by_their_published_places(name, columns):
    places = reference(flux() / f"{DEV}_reference.safetensors")[name]
    axes, text = (2, 2, 4), 3
    found = joint_angles(text, 4, columns, axes)
    assert not found[:text].any()
    np.testing.assert_allclose(found[text:, 1], places[:, 1])
    np.testing.assert_allclose(found[text:, 2:], places[:, [2, 2]] * [1.0, 0.01])


def test_products_of_turned_tokens_depend_on_the_difference_of_their_places_alone():
    q, k = np.random.default_rng(0).normal(size=(2, 12)).astype(np.float32)
    rows, columns = 4, 5
    angles = joint_angles(0, rows, columns, (2, 6, 4))
    every = [
        np.asarray(turned(np.tile(x, (rows * columns, 1, 1)), angles)).reshape(rows, columns, 12)
        for x in (q, k)
    ]
    products = np.einsum("abx,cdx->abcd", *every)
    np.testing.assert_allclose(products[:-1, :, :-1], products[1:, :, 1:], atol=1e-5)
    np.testing.assert_allclose(products[:, :-1, :, :-1], products[:, 1:, :, 1:], atol=1e-5)
    assert products.std() > 0.1


def test_paths_are_the_published_names():
    file = flux() / DEV / "transformer" / "diffusion_pytorch_model.safetensors"
    leaves = {"kernel": "weight", "scale": "weight", "bias": "bias"}
    names = set()
    for path in parameter_paths(model(DEV).params):
        *modules, leaf = path.split("/")
        joined = ".".join(modules).replace("blocks_", "blocks.").replace("net_", "net.")
        names.add(f"{joined.replace('to_out_0', 'to_out.0')}.{leaves[leaf]}")
    assert names == load_file(file).keys()


def test_the_published_networks_have_their_sizes_and_context_sides():
    dev = jax.eval_shape(of(PUBLISHED).init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(dev)) == 11_901_408_320
    assert select(dev, CONTEXT).size == 717_459_456
    guided = select(dev, ("*guidance_embedder*",)).size
    assert 11_901_408_320 - guided == 11_891_178_560  # schnell
    assert of(PUBLISHED).latent_shape == (128, 128, 16)


def test_the_network_is_one_of_the_library():
    network, params = of(MADE), random_params()
    assert isinstance(network, RecastableModule)
    layers_fn = layers_fn_of(network, schedules.linear(), "eps")
    trace = jax.eval_shape(layers_fn, params, {}, inputs()[0], 1, inputs()[2])
    kernels = {path.removesuffix("/kernel") for path in parameter_paths(params) if "kernel" in path}
    assert trace.inputs.keys() == kernels
    assert trace.eps.shape == (4, 8, 2)


@cache
def made_output(guidance: float = 3.5):
    network = of(MADE, guidance=guidance)
    return jax.jit(lambda params, *of_sample: network.apply({"params": params}, *of_sample))


def test_the_order_of_the_tokens_of_the_text_does_not_matter():
    """They all are at one place."""
    x, level, cond = inputs()
    turned_round = cond._replace(embeddings=cond.embeddings[::-1])
    found = made_output()(random_params(), x, level, turned_round)
    assert difference(found, np.asarray(made_output()(random_params(), x, level, cond))) < EXACT


def test_guidance_is_heard_where_the_network_takes_it_and_nowhere_else():
    of_sample = inputs()
    one, other = (made_output(scale)(random_params(), *of_sample) for scale in (3.5, 1.0))
    assert difference(one, np.asarray(other)) > 1e-3
    assert of(MADE | {"guidance_embeds": False}).guidance is None


def squares(params, x, level, cond):
    return jnp.sum(of(MADE).apply({"params": params}, x, level, cond) ** 2)


def test_every_parameter_reaches_the_output():
    found = jax.tree.leaves(jax.jit(jax.grad(squares))(random_params(), *inputs()))
    paths = parameter_paths(random_params())
    assert [path for path, leaf in zip(paths, found, strict=True) if not np.any(leaf)] == []


def test_the_outputs_of_blocks_have_the_name_that_saved_ones_have():
    """Of both streams, then of the one."""
    found = str(jax.make_jaxpr(squares)(random_params(), *inputs()))
    assert found.count(f"name={BLOCK}") == 3


def test_bfloat16_is_near_and_its_float32_is_exact():
    half = of(MADE, Compute(dtype="bfloat16"))
    found = jax.jit(half.apply)({"params": random_params()}, *inputs())
    assert found.dtype == jnp.bfloat16
    exact = made_output()(random_params(), *inputs())
    assert 1e-4 < difference(found.astype(jnp.float32), np.asarray(exact)) < 5e-2
    assert half.in_float32() == of(MADE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes_dims_rope": [2, 2, 4]}, r"axes_dims_rope is \[2, 2, 4\], expected three even"),
        ({"axes_dims_rope": [3, 5, 4]}, r"axes_dims_rope is \[3, 5, 4\], expected three even"),
        ({"out_channels": 4}, "out_channels is 4, only 8 is supported"),
        ({"in_channels": 6}, "in_channels is 6, expected a multiple of 4"),
        ({"num_single_layers": None}, "lacks num_single_layers; use a FLUX.1 text-to-image model"),
    ],
)
def test_another_config_is_one_line(changes, message):
    with pytest.raises(UsageError, match=message) as raised:
        of(MADE | changes)
    assert "\n" not in str(raised.value)


def test_a_latent_that_does_not_fit_is_refused():
    _, level, cond = inputs()
    with pytest.raises(UsageError, match="latents of 3 x 4 do not fit: expected multiples of 2"):
        of(MADE).apply({"params": random_params()}, jnp.zeros((3, 4, 2)), level, cond)


def test_a_tensor_of_another_file_than_the_list_says_is_one_line(tmp_path):
    for file in (flux() / SCHNELL / "transformer").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    last = next(tmp_path.glob("*-00003-of-*"))
    tensors = load_file(last)
    name = min(tensors)
    del tensors[name]
    save_file(tensors, last)
    with pytest.raises(UsageError, match=f"{last.name} lacks '{name}'") as raised:
        load_flux(tmp_path, FLOAT32)
    assert "\n" not in str(raised.value)
