"""Weights that a file has in 16 bits: half the memory, and the same numbers."""

import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.serialization import msgpack_serialize
from safetensors.numpy import load_file, save_file

from ctrak_jax import reward
from ctrak_jax import schedule as schedules
from ctrak_jax.gradient import path_gradients, select
from ctrak_jax.models.checkpoints import DIFFUSERS
from ctrak_jax.models.denoiser import FLOAT32, Compute, Denoiser, denoiser_of
from ctrak_jax.models.mmdit import FluxDenoiser
from ctrak_jax.models.network import SizedTextCondition, TextCondition
from ctrak_jax.models.stable_diffusion import UNet, load_unet, unet_of
from ctrak_jax.models.text_encoders import load_clip_text, load_t5
from ctrak_jax.models.transformers import load_transformer
from ctrak_jax.trajectory import Path as States
from ctrak_jax.typing import Array, Cond, Params
from tests.tiny_model import SHALLOW, random_like
from tests.wild import flux, sd3, sdxl

HALF = Compute(dtype="bfloat16")
UNET = sdxl() / "sdxl" / "unet" / "config.json"
SHALLOW_XL = json.loads(UNET.read_text()) | SHALLOW
SHALLOW_XL |= {"block_out_channels": [8], "attention_head_dim": 2}
SHALLOW_XL |= {"transformer_layers_per_block": 1}


class Case(NamedTuple):
    """A network that computes in bfloat16, what is differentiated of it, and its inputs."""

    denoiser: Denoiser
    pattern: str
    x: Array
    cond: Cond


def normal(*shape: int) -> Array:
    return jnp.asarray(np.random.default_rng(len(shape)).normal(size=shape), jnp.float32)


def schnell(dtype: Any) -> Case:
    """FLUX.1-schnell, whose files are in bfloat16; parameters in dtype."""
    found = load_transformer(flux() / "flux_schnell" / "transformer", HALF)
    network, params = found.network, as_type(found.params, dtype)
    assert isinstance(network, FluxDenoiser)
    cond = TextCondition(normal(4, network.text_width), normal(network.pooled_width))
    made = denoiser_of(network, params, schedules.rectified_flow(), "flow", HALF)
    return Case(made, "*transformer_blocks_0/attn/*", normal(2, 4, 4, 16), cond)


def xl_unet(dtype: Any) -> Case:
    """A UNet of one level, told the size of the picture; its parameters were rounded to 16 bits."""
    network = unet_of(SHALLOW_XL, UNET, HALF)
    params = as_type(as_type(made_up(network), jnp.bfloat16), dtype)
    assert network.pooled_width is not None
    text = normal(4, network.text_width), normal(network.pooled_width)
    made = denoiser_of(network, params, schedules.scaled_linear(), "eps", HALF)
    cond = SizedTextCondition(*text, normal(6))
    return Case(made, "up_blocks_0/*_0/*", normal(2, 4, 4, 4), cond)


def made_up(network: UNet) -> Params:
    return random_like(jax.eval_shape(network.init, jax.random.key(0)), 0)


def as_type(params: Params, dtype: Any) -> Params:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params)


def test_parameters_stay_as_the_file_has_them_where_the_network_computes_so():
    folder = flux() / "flux_schnell" / "transformer"
    for compute, dtype in ((HALF, jnp.bfloat16), (FLOAT32, jnp.float32)):
        leaves = jax.tree.leaves(load_transformer(folder, compute).params)
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype(dtype)}
    single = load_transformer(sd3() / "sd3_plain" / "transformer", HALF).params
    assert {leaf.dtype for leaf in jax.tree.leaves(single)} == {jnp.dtype("float32")}


def test_a_unets_parameters_stay_as_its_file_has_them(tmp_path):
    half = as_type(made_up(unet_of(SHALLOW_XL, UNET, FLOAT32)), np.float16)
    (tmp_path / DIFFUSERS.flax).write_bytes(msgpack_serialize(jax.tree.map(np.asarray, half)))
    (tmp_path / "config.json").write_text(json.dumps(SHALLOW_XL))
    for compute, dtype in ((HALF, np.float16), (FLOAT32, np.float32)):
        leaves = jax.tree.leaves(load_unet(tmp_path, compute).params)
        assert {leaf.dtype for leaf in leaves} == {np.dtype(dtype)}


@pytest.mark.parametrize("case", [schnell, xl_unet])
def test_predictions_and_gradients_are_the_same_numbers(case):
    """Parameters of linear layers, whose gradients are taken by layer, and convolutions, biases
    and norms, which are differentiated themselves."""
    found = []
    for dtype in (jnp.bfloat16, jnp.float32):
        (made, pattern, x, cond), t = case(dtype), jnp.array([300, 700])
        part = select(made.params, (pattern,))

        def layers_fn(chosen, taps, x, t, c, made=made, part=part):
            return made.layers_fn(part.merge(chosen, part.others), taps, x, t, c)

        @jax.jit
        def run(made=made, part=part, layers_fn=layers_fn, x=x, t=t, cond=cond):
            eps = made.eps_fn(made.params, x[0], t[0], cond)
            exact = made.exact_fn(made.params, x[0], t[0], cond)
            loss, states = reward.l2(), States(x, t)
            sums = path_gradients(loss, layers_fn, part.params, states, cond, normalise=(True,))
            return eps, exact, sums

        found.append(run())
    assert {leaf.dtype for leaf in jax.tree.leaves(found[0][2])} == {jnp.dtype("float32")}
    assert any(path.endswith("bias") for path in found[0][2][0])
    jax.tree.map(np.testing.assert_array_equal, *found)


def test_text_encoders_compute_in_float32_whatever_they_are_stored_in(tmp_path):
    tokens = np.array([3, 40, 7, 1, 0, 0], np.int32)
    for load, part in ((load_t5, "text_encoder_3"), (load_clip_text, "text_encoder_2")):
        folder, copy = sd3() / "sd3_dual" / part, tmp_path / part
        (weights,) = folder.glob("*.safetensors")
        half = {k: v.astype(jnp.bfloat16) for k, v in load_file(weights).items()}
        for place, tensors in ((copy / "half", half), (copy / "whole", None)):
            place.mkdir(parents=True)
            (place / "config.json").write_bytes((folder / "config.json").read_bytes())
            tensors = tensors or {k: v.astype(np.float32) for k, v in half.items()}
            save_file(tensors, place / weights.name)
        kept, whole = load(copy / "half"), load(copy / "whole")
        assert {leaf.dtype for leaf in jax.tree.leaves(kept.params)} == {jnp.dtype("bfloat16")}
        # Operation by operation: compiled together, sums are in another order.
        one, two = (found.network.apply(found.params, tokens) for found in (kept, whole))
        jax.tree.map(np.testing.assert_array_equal, one, two)
        assert {leaf.dtype for leaf in jax.tree.leaves(one)} == {jnp.dtype("float32")}
