"""Stable Diffusion 3's transformer: agreement with PyTorch's class, and what must hold of it."""

import json
import shutil
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
from ctrak_jax.models.checkpoints.config_file import read_config
from ctrak_jax.models.denoiser import BLOCK, FLOAT32, Compute, layers_fn_of
from ctrak_jax.models.mmdit import SD3Denoiser, load_sd3, sd3_of
from ctrak_jax.models.network import RecastableModule, TextCondition
from ctrak_jax.models.stable_diffusion import Component
from tests.references import EXACT, RECORDED, channels_last, difference, reference, shifted
from tests.wild import sd3

DUAL, NO_T5, PLAIN = "sd3_dual", "sd3_no_t5", "sd3_plain"
WEIGHTS = "diffusion_pytorch_model.safetensors"
CONTEXT = ("*/attn/add_[qkv]_proj/*", "*/attn/to_add_out/*")
MADE = {
    "num_layers": 2,
    "num_attention_heads": 3,
    "attention_head_dim": 4,
    "caption_projection_dim": 12,
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 4,
    "sample_size": 8,
    "pos_embed_max_size": 7,
    "joint_attention_dim": 5,
    "pooled_projection_dim": 6,
    "qk_norm": "rms_norm",
    "dual_attention_layers": [1],
}
PUBLISHED = MADE | {
    "num_layers": 24,
    "num_attention_heads": 24,
    "attention_head_dim": 64,
    "caption_projection_dim": 1536,
    "in_channels": 16,
    "out_channels": 16,
    "sample_size": 128,
    "pos_embed_max_size": 384,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 2048,
    "dual_attention_layers": list(range(13)),
}
"""Stable Diffusion 3.5 medium."""


@cache
def model(name: str) -> Component[SD3Denoiser]:
    return load_sd3(sd3() / name / "transformer", FLOAT32)


def of(config: dict, compute: Compute = FLOAT32) -> SD3Denoiser:
    return sd3_of(config, sd3() / "config.json", compute)


@cache
def random_params():
    return jax.jit(of(MADE).init)(jax.random.key(0))


def inputs(tokens: int = 5) -> tuple[jax.Array, jax.Array, TextCondition]:
    """A latent that is not square, a level and a condition for MADE."""
    rng = np.random.default_rng(0)
    x, embeddings, pooled = (
        jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((4, 8, 4), (tokens, 5), (6,))
    )
    return x, jnp.float32(0.37), TextCondition(embeddings, pooled)


def rows(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """States, levels, the sample of each, and the expected velocities."""
    ref = reference(sd3() / f"{name}_reference.safetensors")
    if name == PLAIN:
        return ref["x"], ref["sigmas"], np.arange(3), ref["velocity"]
    x = np.concatenate([ref["path_forward"].reshape(-1, 16, 8, 8), ref["x0"]])
    wanted = np.concatenate([ref["velocity"].reshape(-1, 16, 8, 8), ref["start/velocity"]])
    levels = np.append(np.repeat(shifted(RECORDED, 3.0), 3), [0.0] * 3)
    return x, levels, np.tile(np.arange(3), 10), wanted


@pytest.mark.parametrize("name", [DUAL, NO_T5, PLAIN])
def test_velocities_are_those_of_pytorch(name):
    (x, levels, samples, wanted), ref = (
        rows(name),
        reference(sd3() / f"{name}_reference.safetensors"),
    )
    network, params = model(name).network, model(name).params
    conditions = TextCondition(ref["prompt_embeds"][samples], ref["pooled"][samples])

    @jax.jit
    def both(params, x, levels, conditions, wide, level):
        one = jax.vmap(lambda x, s, c: network.apply({"params": params}, x, s, c))
        first = jax.tree.map(lambda a: a[0], conditions)
        return one(x, levels, conditions), network.apply({"params": params}, wide, level, first)

    levels = jnp.asarray(levels, jnp.float32)
    level = levels[1] if name == PLAIN else levels[12]
    wide = channels_last(ref["wide/x"])
    found, found_wide = both(params, channels_last(x), levels, conditions, wide, level)
    for i, expected in enumerate(channels_last(wanted)):
        assert difference(found[i], expected) < EXACT, i
    assert difference(found_wide, channels_last(ref["wide/velocity"])) < EXACT


@pytest.mark.parametrize("name", [DUAL, NO_T5, PLAIN])
def test_the_table_of_the_file_is_the_computed_one_around_its_centre(name):
    network = model(name).network
    for size in ((8, 8), (8, 12), (4, 16)):
        found = network.places(*size)
        np.testing.assert_allclose(found, replace(network, table=None).places(*size), atol=1e-6)
    most = network.most_places
    assert network.table is not None
    whole = network.table.reshape(most, most, -1)
    top, left = (most - 4) // 2, (most - 6) // 2
    np.testing.assert_array_equal(network.places(8, 12), whole[top : top + 4, left : left + 6])


def test_paths_are_the_published_names():
    file = sd3() / DUAL / "transformer" / WEIGHTS
    leaves = {"kernel": "weight", "scale": "weight", "bias": "bias"}
    names = set()
    for path in parameter_paths(model(DUAL).params):
        *modules, leaf = path.split("/")
        joined = ".".join(modules).replace("blocks_", "blocks.").replace("net_", "net.")
        names.add(f"{joined.replace('to_out_0', 'to_out.0')}.{leaves[leaf]}")
    assert names == load_file(file).keys() - {"pos_embed.pos_embed"}


def test_the_published_network_has_its_size_and_its_context_side():
    """Stable Diffusion 3.5 medium."""
    params = jax.eval_shape(of(PUBLISHED).init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 2_243_171_520
    assert select(params, CONTEXT).size == 224_279_040
    assert len(select(params, CONTEXT).params) == 190


def test_the_network_is_one_of_the_library():
    network = of(MADE)
    assert isinstance(network, RecastableModule)
    layers_fn = layers_fn_of(network, schedules.linear(), "eps")
    params = random_params()
    trace = jax.eval_shape(layers_fn, params, {}, inputs()[0], 1, inputs()[2])
    kernels = {path.removesuffix("/kernel") for path in parameter_paths(params) if "kernel" in path}
    assert trace.inputs.keys() == kernels - {"pos_embed/proj"}
    assert trace.eps.shape == (4, 8, 4)


@cache
def made_output(efficient: bool = False):
    network = of(MADE, Compute(efficient_attention=efficient))
    return jax.jit(lambda params, *of_sample: network.apply({"params": params}, *of_sample))


def test_the_order_of_the_tokens_of_the_text_does_not_matter():
    x, level, cond = inputs()
    turned = cond._replace(embeddings=cond.embeddings[::-1])
    found = made_output()(random_params(), x, level, turned)
    assert difference(found, np.asarray(made_output()(random_params(), x, level, cond))) < EXACT
    other = cond._replace(embeddings=2 * cond.embeddings)
    changed = made_output()(random_params(), x, level, other)
    assert difference(found, np.asarray(changed)) > 1e-3


def squares(params, x, level, cond):
    return jnp.sum(of(MADE).apply({"params": params}, x, level, cond) ** 2)


def test_only_the_queries_of_the_last_text_reach_nothing():
    found = jax.tree.leaves(jax.jit(jax.grad(squares))(random_params(), *inputs()))
    paths = parameter_paths(random_params())
    dead = {path for path, leaf in zip(paths, found, strict=True) if not np.any(leaf)}
    last = "transformer_blocks_1/attn"
    expected = {f"{last}/add_q_proj/kernel", f"{last}/add_q_proj/bias"}
    assert dead == expected | {f"{last}/norm_added_q/scale"}


def test_the_outputs_of_blocks_have_the_name_that_saved_ones_have():
    """Of both streams, but in the last block."""
    found = str(jax.make_jaxpr(squares)(random_params(), *inputs()))
    assert found.count(f"name={BLOCK}") == 3


def test_bfloat16_is_near_and_its_float32_is_exact():
    x, level, cond = inputs()
    half = of(MADE, Compute(dtype="bfloat16"))
    found = jax.jit(half.apply)({"params": random_params()}, x, level, cond)
    assert found.dtype == jnp.bfloat16
    exact = made_output()(random_params(), x, level, cond)
    assert 1e-4 < difference(found.astype(jnp.float32), np.asarray(exact)) < 5e-2
    assert half.in_float32() == of(MADE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qk_norm": "layer_norm"}, "qk_norm is 'layer_norm', expected null or 'rms_norm'"),
        (
            {"dual_attention_layers": [2]},
            r"dual_attention_layers is \[2\], expected numbers of its 2",
        ),
        ({"caption_projection_dim": 8}, "caption_projection_dim is 8, only 12 is supported"),
        ({"out_channels": 8}, "out_channels is 8, only 4 is supported"),
        ({"num_attention_heads": "3"}, "num_attention_heads is '3', expected a whole number"),
    ],
)
def test_another_config_is_one_line(changes, message):
    with pytest.raises(UsageError, match=message) as raised:
        of(MADE | changes)
    assert "\n" not in str(raised.value)


def test_a_config_without_a_setting_names_it():
    config = {key: value for key, value in MADE.items() if key != "patch_size"}
    with pytest.raises(UsageError, match="lacks patch_size; use a Stable Diffusion 3"):
        of(config)


@pytest.mark.parametrize("size", [(7, 8), (8, 16)])
def test_a_latent_that_does_not_fit_is_refused(size):
    with pytest.raises(UsageError, match=f"latents of {size[0]} x {size[1]} do not fit"):
        of(MADE).places(*size)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("proj_out.bias"), "parameter proj_out/bias is missing"),
        (lambda t: t.update({"more.weight": t["proj_out.bias"]}), "tensor 'more.weight' is not in"),
        (lambda t: t.update({"proj_out.bias": np.zeros(3)}), r"proj_out/bias is \(3,\)"),
        (lambda t: t.pop("pos_embed.pos_embed"), "tensor pos_embed.pos_embed is missing"),
        (
            lambda t: t.update({"pos_embed.pos_embed": np.zeros((1, 9, 16))}),
            r"tensor pos_embed.pos_embed is \(1, 9, 16\), config.json describes \(1, 144, 16\)",
        ),
    ],
)
def test_a_tensor_too_few_too_many_or_of_another_shape_is_one_line(tmp_path, change, message):
    shutil.copytree(sd3() / PLAIN / "transformer", tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / WEIGHTS)
    change(tensors)
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(UsageError, match=message) as raised:
        load_sd3(tmp_path, FLOAT32)
    assert "\n" not in str(raised.value)


def test_a_config_of_too_many_blocks_is_refused_before_they_are_made(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(MADE | {"num_layers": 10**9}))
    with pytest.raises(UsageError, match="num_layers is 1000000000, expected from 1 to 128"):
        read_config(tmp_path / "config.json")
