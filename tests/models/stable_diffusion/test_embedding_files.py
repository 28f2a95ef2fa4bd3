"""Textual inversions in every form in which they are passed around."""

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from ctrak_jax.errors import UsageError
from ctrak_jax.models import stable_diffusion as sd
from ctrak_jax.models.checkpoints import safe
from ctrak_jax.models.stable_diffusion.embedding_files import load_embeddings
from ctrak_jax.models.stable_diffusion.textual_inversion import add_tokens
from tests.wild import forms

FOLDER = forms() / "textual_inversion"
REFERENCE = safe.read(FOLDER / "reference.safetensors")
FILES = {
    "diffusers_1d/learned_embeds.safetensors": "one",
    "diffusers_2d/learned_embeds.safetensors": "one",
    "diffusers_bin/learned_embeds.bin": "one",
    "half/learned_embeds.safetensors": "one",
    "two_vectors/learned_embeds.safetensors": "two",
    "a1111/new1.pt": "one",
    "a1111/two_vectors.pt": "two",
    "emb_params/new1.safetensors": "one",
    "custom_diffusion/<new1>.bin": "one",
    "concept_trak/new1.bin": "one",
    "bare_tensor/new1.pt": "one",
    "not_zip/learned_embeds.bin": "one",
}


@pytest.mark.parametrize(("name", "vectors"), FILES.items(), ids=FILES)
def test_every_form_has_the_same_token_and_vectors(name, vectors):
    ((token, rows),) = load_embeddings(FOLDER / name).items()
    assert token == "<new1>"
    np.testing.assert_array_equal(rows, REFERENCE.tensors[vectors])


@pytest.mark.parametrize(
    ("name", "vectors"),
    [("emb_params/two_vectors.safetensors", "two"), ("first_code/embeddings.pt", "one")],
)
def test_a_file_that_says_no_token_takes_the_one_that_is_given(name, vectors):
    ((token, rows),) = load_embeddings(FOLDER / name, "<new1>").items()
    assert token == "<new1>"
    np.testing.assert_array_equal(rows, REFERENCE.tensors[vectors])


def test_or_the_files_name_where_that_says_one(tmp_path):
    assert list(load_embeddings(FOLDER / "emb_params/two_vectors.safetensors")) == ["<two_vectors>"]
    with pytest.raises(UsageError, match=r"embeddings\.pt does not say its token.* name the file"):
        load_embeddings(FOLDER / "first_code" / "embeddings.pt")
    save_file({"<a>": np.ones((1, 4)), "<b>": np.ones((1, 4))}, tmp_path / "x.safetensors")
    assert list(load_embeddings(tmp_path / "x.safetensors")) == ["<a>", "<b>"]
    with pytest.raises(UsageError, match=r"holds 2 tokens, '<a>', '<b>'; leave out the name"):
        load_embeddings(tmp_path / "x.safetensors", "<c>")


def test_what_is_no_token_of_this_model_is_refused_by_name(tmp_path):
    with pytest.raises(UsageError, match=r"Stable Diffusion XL or later .*clip_g, clip_l"):
        load_embeddings(FOLDER / "sdxl" / "new1.safetensors")
    save_file({"emb_params": np.ones((1, 2, 4))}, tmp_path / "x.safetensors")
    with pytest.raises(UsageError, match=r"'<x>' is shaped \(1, 2, 4\), expected a token's"):
        load_embeddings(tmp_path / "x.safetensors")


def test_prompts_with_the_token_read_as_in_pytorch():
    text = sd.load_codecs(forms() / "formats" / "sd_fp16").text
    prompts = [REFERENCE.metadata[f"prompt_{n}"] for n in (1, 2)]
    for name, vectors in (("a1111/new1.pt", "one"), ("a1111/two_vectors.pt", "two")):
        grown = add_tokens(text, load_embeddings(FOLDER / name))
        embed = jax.jit(grown.network.apply)
        for number, prompt in enumerate(prompts, start=1):
            tokens = grown.network.tokens(prompt)
            expected = REFERENCE.tensors[f"{vectors}/tokens_{number}"][0]
            np.testing.assert_array_equal(tokens, expected)
            found = embed(grown.params, tokens)
            np.testing.assert_allclose(
                found, REFERENCE.tensors[f"{vectors}/text_{number}"][0], atol=1e-5
            )
