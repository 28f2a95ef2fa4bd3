"""CLIP's text transformer: agreement with PyTorch's classes, and what must hold of it."""

import json
from functools import cache

import jax
import numpy as np
import pytest

from ctrak_jax.errors import UsageError
from ctrak_jax.models.stable_diffusion import Component
from ctrak_jax.models.text_encoders import CLIPTextEncoder, clip_text_of, load_clip_text
from tests.references import difference, reference
from tests.wild import flux, sd3, sdxl

ROOTS = {"sdxl": sdxl, "sd3_dual": sd3, "sd3_no_t5": sd3, "flux_dev": flux}
POOLED = {"sdxl": "pooled_prompt_embeds"}
EMBEDDINGS = 1e-5
KINDS = ("", "_minus", "_empty")


@cache
def model(name: str, folder: str) -> Component[CLIPTextEncoder]:
    return load_clip_text(ROOTS[name]() / name / folder)


@cache
def encoded(name: str, folder: str):
    found = model(name, folder)
    return jax.jit(lambda tokens: jax.vmap(lambda t: found.network.apply(found.params, t))(tokens))


def joined(name: str, key: str) -> np.ndarray:
    ref = reference(ROOTS[name]() / f"{name}_reference.safetensors")
    return np.concatenate([ref[f"{key}{kind}"] for kind in KINDS])


@pytest.mark.parametrize("name", ["sdxl", "sd3_dual", "sd3_no_t5"])
def test_both_encoders_are_those_of_pytorch(name):
    """Stable Diffusion XL and 3 take the layer before the last of both; XL projects one text."""
    tokens = [joined(name, f"tokens_{n}").astype(np.int32) for n in (1, 2)]
    outputs = [
        encoded(name, folder)(t)
        for folder, t in zip(("text_encoder", "text_encoder_2"), tokens, strict=True)
    ]
    embeds = joined(name, "prompt_embeds")[:, : tokens[0].shape[1]]
    width = 0
    for output in outputs:
        after = width + output.penultimate.shape[-1]
        assert difference(output.penultimate, embeds[..., width:after]) < EMBEDDINGS
        width = after
    assert not embeds[..., width:].any()
    projected = [output.projected for output in outputs if output.projected is not None]
    assert len(projected) == (1 if name == "sdxl" else 2)
    pooled = joined(name, POOLED.get(name, "pooled"))
    assert difference(np.concatenate(projected, axis=-1), pooled) < EMBEDDINGS


def test_the_pooled_text_of_flux_is_that_of_pytorch():
    """Its file has transformers 5's names, and no projection."""
    tokens = joined("flux_dev", "tokens_1").astype(np.int32)
    output = encoded("flux_dev", "text_encoder")(tokens)
    assert output.projected is None
    assert difference(output.pooled, joined("flux_dev", "pooled")) < EMBEDDINGS


def test_a_token_is_read_by_those_after_it_alone():
    run = encoded("sd3_dual", "text_encoder")
    tokens = joined("sd3_dual", "tokens_1").astype(np.int32)
    other = tokens.copy()
    other[:, 4] = (other[:, 4] + 1) % 500
    one, two = run(tokens).last, run(other).last
    np.testing.assert_allclose(one[:, :4], two[:, :4], atol=1e-6)
    assert (np.abs(np.asarray(one - two))[:, 4:].max(axis=-1) > 1e-5).all()


def test_the_end_is_the_largest_token_or_the_one_that_is_named():
    """In older configs eos_token_id is 2 whatever the end token is."""
    file = sd3() / "sd3_dual" / "text_encoder" / "config.json"
    config, params = json.loads(file.read_text()), model("sd3_dual", "text_encoder").params
    tokens = np.array([3, 40, 90, 7, 90, 7], np.int32)
    for end, place in ((2, 2), (7, 3)):
        network = clip_text_of(config | {"eos_token_id": end}, file)
        found = network.apply(params, tokens)
        np.testing.assert_array_equal(found.pooled, found.last[place])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act is 'relu', expected 'quick_gelu', 'gelu'"),
        ({"hidden_size": 15}, "hidden_size is 15, expected a multiple of its 2 heads"),
        ({"model_type": "t5"}, "model_type is 't5', only 'clip_text_model' is supported"),
        ({"eos_token_id": [2]}, r"eos_token_id is \[2\], expected the number of one token"),
        ({"use_attention_mask": True}, "use_attention_mask is True, only False is supported"),
        ({"projection_dim": 0}, "projection_dim is 0, expected a whole number above 0"),
    ],
)
def test_another_config_is_one_line(changes, message):
    file = sd3() / "sd3_dual" / "text_encoder" / "config.json"
    with pytest.raises(UsageError, match=message) as raised:
        clip_text_of(json.loads(file.read_text()) | changes, file)
    assert "\n" not in str(raised.value)
