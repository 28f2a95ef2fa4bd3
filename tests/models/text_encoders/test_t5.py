"""T5's encoder: agreement with PyTorch's class, and what must hold of it."""

import json
import shutil
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ctrak_jax.errors import UsageError
from ctrak_jax.models.stable_diffusion import Component
from ctrak_jax.models.text_encoders import T5Text, load_t5, t5_of
from ctrak_jax.models.text_encoders.t5 import distance_buckets
from tests.references import difference, reference
from tests.wild import flux, sd3

FOLDERS = {
    "sd3_dual": (sd3, "text_encoder_3", "tokens_3"),
    "flux_dev": (flux, "text_encoder_2", "tokens_2"),
}
EMBEDDINGS = 1e-5


@cache
def model(name: str) -> Component[T5Text]:
    root, folder, _ = FOLDERS[name]
    return load_t5(root() / name / folder)


@cache
def encoded(name: str):
    network = model(name).network
    return jax.jit(jax.vmap(network.apply, (None, 0)))


@pytest.mark.parametrize("name", FOLDERS)
def test_embeddings_are_those_of_pytorch(name):
    root, _, key = FOLDERS[name]
    ref = reference(root() / f"{name}_reference.safetensors")
    kinds = ("", "_minus", "_empty")
    tokens = np.concatenate([ref[f"{key}{kind}"] for kind in kinds]).astype(np.int32)
    wanted = np.concatenate([ref[f"prompt_embeds{kind}"] for kind in kinds])
    found = encoded(name)(model(name).params, tokens)
    assert difference(found, wanted[:, -tokens.shape[1] :]) < EMBEDDINGS


def test_texts_are_read_in_order():
    """Two tokens that change places change what the others become."""
    params, run = model("flux_dev").params, encoded("flux_dev")
    text = np.tile(np.arange(12, dtype=np.int32), (2, 1))
    text[1, [3, 8]] = text[1, [8, 3]]
    one, other = np.asarray(run(params, text))
    assert (np.abs(one - other).max(axis=-1) > 1e-5).all()


def test_the_published_buckets():
    """32 buckets up to 128 tokens: exact to 7, then three octaves and more on a logarithm."""
    found = distance_buckets(400, 32, 128)
    assert found[0, :8].tolist() == [0, *range(17, 24)]
    assert found[:8, 0].tolist() == list(range(8))
    assert [found[n, 0] for n in (8, 11, 12, 15, 16, 31, 32, 63, 64, 127, 128, 399)] == [
        *(8, 8, 9, 9, 10, 11, 12, 13, 14, 15, 15, 15)
    ]
    assert (found[1:, 1:] == found[:-1, :-1]).all()
    assert (np.triu(found.T, 1) == np.triu(found - 16, 1)).all()


def folder_of(tmp_path, change):
    root, folder, _ = FOLDERS["flux_dev"]
    shutil.copytree(root() / "flux_dev" / folder, tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path


def test_a_table_that_a_file_has_twice_is_read_once(tmp_path):
    copy = "encoder.embed_tokens.weight"
    found = load_t5(folder_of(tmp_path, lambda t: t.update({copy: t["shared.weight"]})))
    jax.tree.map(np.testing.assert_array_equal, found.params, model("flux_dev").params)
    only = load_t5(folder_of(tmp_path, lambda t: t.update({copy: t.pop("shared.weight")})))
    jax.tree.map(np.testing.assert_array_equal, only.params, model("flux_dev").params)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("shared.weight"), "parameter shared/embedding is missing"),
        (
            lambda t: t.update({"lm_head.weight": np.zeros(3)}),
            r"tensor 'lm_head\.weight' is not in",
        ),
    ],
)
def test_a_tensor_too_few_or_too_many_is_one_line(tmp_path, change, message):
    with pytest.raises(UsageError, match=message) as raised:
        load_t5(folder_of(tmp_path, change))
    assert "\n" not in str(raised.value)


def test_an_older_t5_is_refused():
    root, folder, _ = FOLDERS["flux_dev"]
    file = root() / "flux_dev" / folder / "config.json"
    config = json.loads(file.read_text()) | {"feed_forward_proj": "relu"}
    with pytest.raises(UsageError, match="feed_forward_proj is 'relu', only 'gated-gelu'"):
        t5_of(config, file)


def test_the_published_encoder_has_its_size():
    """T5-XXL of 24 layers, from two layers and one."""
    sizes = []
    for layers in (1, 2):
        network = t5_of(
            {
                "num_layers": layers,
                "num_heads": 64,
                "d_model": 4096,
                "d_kv": 64,
                "d_ff": 10240,
                "vocab_size": 32128,
                "relative_attention_num_buckets": 32,
            },
            FOLDERS["flux_dev"][0]() / "config.json",
        )
        params = jax.eval_shape(network.init, jax.random.key(0))
        sizes.append(sum(leaf.size for leaf in jax.tree.leaves(params)))
    assert round((sizes[0] + 23 * (sizes[1] - sizes[0])) / 1e6, 1) == 4762.3
    assert jnp.float32 == jax.tree.leaves(params)[0].dtype
