"""DiT-XL/2's transformer: agreement with PyTorch's class, and what must hold of it."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from ctrak_jax import schedule as schedules
from ctrak_jax.errors import UsageError
from ctrak_jax.gradient import parameter_paths
from ctrak_jax.models.denoiser import BLOCK, FLOAT32, Compute, layers_fn_of
from ctrak_jax.models.latent_dit import LatentDiTDenoiser, latent_dit_of, load_latent_dit
from ctrak_jax.models.network import RecastableModule
from ctrak_jax.models.stable_diffusion import Component
from tests.references import EXACT, channels_last, difference, reference
from tests.wild import dit_xl

MADE = {
    "num_layers": 2,
    "num_attention_heads": 3,
    "attention_head_dim": 4,
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 8,
    "sample_size": 8,
    "num_embeds_ada_norm": 5,
}
PUBLISHED = MADE | {
    "num_layers": 28,
    "num_attention_heads": 16,
    "attention_head_dim": 72,
    "sample_size": 32,
    "num_embeds_ada_norm": 1000,
}
"""DiT-XL/2."""


@cache
def model() -> Component[LatentDiTDenoiser]:
    return load_latent_dit(dit_xl() / "dit" / "transformer", FLOAT32)


def of(config: dict, compute: Compute = FLOAT32) -> LatentDiTDenoiser:
    return latent_dit_of(config, dit_xl() / "config.json", compute)


@cache
def random_params():
    return jax.jit(of(MADE).init)(jax.random.key(0))


def inputs() -> tuple[jax.Array, int, jax.Array]:
    x = np.random.default_rng(0).normal(size=(4, 8, 4))
    return jnp.asarray(x, jnp.float32), 499, jnp.int32(3)


def test_predictions_are_those_of_pytorch():
    ref, network = reference(dit_xl() / "dit_reference.safetensors"), model().network
    classes = jnp.asarray(np.append(ref["labels"], [ref["label_null"][0]] * 3), jnp.int32)
    path = channels_last(ref["path_forward"])

    @jax.jit
    def every(params, path, times, classes):
        def one(x, t, number):
            return network.apply({"params": params}, x, t, number)

        return jax.vmap(jax.vmap(one, (0, None, 0)), (0, 0, None))(path, times, classes)

    twice = np.concatenate([path, path], axis=1)
    found = every(model().params, twice, jnp.asarray(ref["timesteps"], jnp.int32), classes)
    for i, expected in enumerate(channels_last(ref["output"])):
        assert difference(found[i, :3], expected[..., :4]) < EXACT, i
    null = channels_last(ref["output_null"])[..., :4]
    assert min(difference(step[3:], null) for step in found) < EXACT


def test_the_class_of_none_is_the_last():
    ref = reference(dit_xl() / "dit_reference.safetensors")
    assert model().network.classes == ref["label_null"][0]


def test_paths_are_the_published_names():
    leaves = {"kernel": "weight", "embedding": "weight", "bias": "bias"}
    names = set()
    for path in parameter_paths(model().params):
        *modules, leaf = path.split("/")
        joined = ".".join(modules).replace("blocks_", "blocks.").replace("net_", "net.")
        names.add(f"{joined.replace('to_out_0', 'to_out.0')}.{leaves[leaf]}")
    file = dit_xl() / "dit" / "transformer" / "diffusion_pytorch_model.safetensors"
    assert names == load_file(file).keys()


def test_the_published_network_has_its_size():
    """The table of 28 * (1,001 classes + time) is most of what is stored more than once."""
    one = jax.eval_shape(of(PUBLISHED | {"num_layers": 1}).init, jax.random.key(0))
    two = jax.eval_shape(of(PUBLISHED | {"num_layers": 2}).init, jax.random.key(0))
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(each)) for each in (one, two)]
    assert sizes[0] + 27 * (sizes[1] - sizes[0]) == 749_826_464


def squares(params, x, t, number):
    return jnp.sum(of(MADE).apply({"params": params}, x, t, number) ** 2)


def test_no_gradient_comes_from_the_learned_variance_or_other_classes():
    found = jax.jit(jax.grad(squares))(random_params(), *inputs())
    head = np.asarray(found["proj_out_2"]["kernel"]).reshape(12, 4, 8)
    assert not head[..., 4:].any()
    assert head[..., :4].any(axis=(0, 1)).all()
    for block in ("transformer_blocks_0", "transformer_blocks_1"):
        table = found[block]["norm1"]["emb"]["class_embedder"]["embedding_table"]["embedding"]
        assert np.flatnonzero(np.any(table, axis=1)).tolist() == [3]


def test_the_network_is_one_of_the_library():
    network, params = of(MADE), random_params()
    assert isinstance(network, RecastableModule)
    layers_fn = layers_fn_of(network, schedules.linear(), "eps")
    trace = jax.eval_shape(layers_fn, params, {}, *inputs())
    kernels = {path.removesuffix("/kernel") for path in parameter_paths(params) if "kernel" in path}
    assert trace.inputs.keys() == kernels - {"pos_embed/proj"}
    assert trace.eps.shape == (4, 8, 4)


def test_the_outputs_of_blocks_have_the_name_that_saved_ones_have():
    found = str(jax.make_jaxpr(squares)(random_params(), *inputs()))
    assert found.count(f"name={BLOCK}") == 2


def test_places_span_the_size_of_training():
    network = of(MADE)
    same, twice = network.places(8, 8), network.places(16, 8)
    np.testing.assert_allclose(twice[::2], same, atol=1e-6)
    odd = of(MADE | {"sample_size": 9})
    np.testing.assert_array_equal(odd.places(8, 8), same)
    np.testing.assert_allclose(same[2, 3, :3], np.sin(3 * 10_000.0 ** (-np.arange(3) / 3)), 1e-6)
    np.testing.assert_allclose(same[2, 3, -3:], np.cos(2 * 10_000.0 ** (-np.arange(3) / 3)), 1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm_type": "ada_norm"}, "norm_type is 'ada_norm', only 'ada_norm_zero' is supported"),
        ({"out_channels": 6}, "out_channels is 6, expected 4, or 8 with the learned variance"),
        ({"attention_head_dim": 3}, "tokens are 9 wide, expected a multiple of 4"),
        ({"num_embeds_ada_norm": None}, "num_embeds_ada_norm is None, expected a whole number"),
    ],
)
def test_another_config_is_one_line(changes, message):
    with pytest.raises(UsageError, match=message) as raised:
        of(MADE | changes)
    assert "\n" not in str(raised.value)


def test_a_latent_that_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="latents of 7 x 8 do not fit: expected multiples of 2"):
        of(MADE).places(7, 8)
