"""Weights that a file has in 16 bits: half the memory, and the same numbers."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file, save_file

from ctrak_jax import reward
from ctrak_jax import schedule as schedules
from ctrak_jax.gradient import path_gradients, select
from ctrak_jax.models.denoiser import FLOAT32, Compute, denoiser_of
from ctrak_jax.models.network import TextCondition
from ctrak_jax.models.text_encoders import load_clip_text, load_t5
from ctrak_jax.models.transformers import load_transformer
from ctrak_jax.trajectory import Path as States
from tests.wild import flux, sd3

HALF = Compute(dtype="bfloat16")


@cache
def schnell(dtype: Any = jnp.bfloat16):
    """FLUX.1-schnell, whose files are in bfloat16, computing in bfloat16; parameters in dtype."""
    found = load_transformer(flux() / "flux_schnell" / "transformer", HALF)
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), found.params)
    schedule = schedules.rectified_flow()
    return denoiser_of(found.network, params, schedule, "flow", HALF), found.network


def condition(network: Any) -> TextCondition:
    rng = np.random.default_rng(0)
    made = rng.normal(size=(4, network.text_width)), rng.normal(size=network.pooled_width)
    return TextCondition(*(jnp.asarray(part, jnp.float32) for part in made))


def test_parameters_stay_as_the_file_has_them_where_the_network_computes_so():
    folder = flux() / "flux_schnell" / "transformer"
    for compute, dtype in ((HALF, jnp.bfloat16), (FLOAT32, jnp.float32)):
        leaves = jax.tree.leaves(load_transformer(folder, compute).params)
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype(dtype)}
    single = load_transformer(sd3() / "sd3_plain" / "transformer", HALF).params
    assert {leaf.dtype for leaf in jax.tree.leaves(single)} == {jnp.dtype("float32")}


def test_predictions_and_gradients_are_the_same_numbers():
    """Parameters of linear layers, whose gradients are taken by layer, and biases and norms, which
    are differentiated themselves."""
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 4, 4, 16)), jnp.float32)
    states, found = States(x, jnp.array([300, 700])), []
    for dtype in (jnp.bfloat16, jnp.float32):
        made, network = schnell(dtype)
        part = select(made.params, ("*transformer_blocks_0/attn/*",))

        def layers_fn(chosen, taps, x, t, c, made=made, part=part):
            return made.layers_fn(part.merge(chosen, part.others), taps, x, t, c)

        @jax.jit
        def run(made=made, part=part, network=network, layers_fn=layers_fn):
            cond = condition(network)
            eps = made.eps_fn(made.params, x[0], jnp.int32(300), cond)
            exact = made.exact_fn(made.params, x[0], jnp.int32(300), cond)
            loss = reward.l2()
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
