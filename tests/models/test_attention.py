"""Attention: every form is the plain one, with its derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax.models import attention

SIZES = [(7, 7, 1, 3), (12, 5, 2, 4), (16, 16, 3, 8), (attention.CHUNK + 7, 6, 1, 2)]
FORMS = {
    "jax": lambda q, k, v: attention.attend(q, k, v, efficient=False),
    "efficient": lambda q, k, v: attention.attend(q, k, v, efficient=True),
    "chunks that fit": lambda q, k, v: attention.in_chunks(q, k, v, size=4),
    "chunks of 5": lambda q, k, v: attention.in_chunks(q, k, v, size=5),
}


def arrays(size):
    tokens, keys, heads, dim = size
    rng = np.random.default_rng(tokens)
    shapes = [(tokens, heads, dim), (keys, heads, dim), (keys, heads, dim), (tokens, heads, dim)]
    return [jnp.asarray(2 * rng.normal(size=shape), jnp.float32) for shape in shapes]


@pytest.mark.parametrize("size", SIZES)
def test_the_plain_form_is_a_weighted_mean(size):
    q, k, v, _ = (np.asarray(a, np.float64) for a in arrays(size))
    scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(size[-1])
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    expected = np.einsum("hqk,khd->qhd", weights, v)
    np.testing.assert_allclose(attention.plain(*arrays(size)[:3]), expected, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_plain_one_with_its_derivatives(form, size):
    *qkv, cotangent = arrays(size)
    found, back = jax.vjp(FORMS[form], *qkv)
    expected, plain_back = jax.vjp(attention.plain, *qkv)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for one, other in zip(back(cotangent), plain_back(cotangent), strict=True):
        np.testing.assert_allclose(one, other, atol=3e-5)


def test_chunks_have_a_forward_derivative():
    *qkv, _ = arrays(SIZES[1])
    found = jax.jvp(FORMS["chunks of 5"], qkv, qkv)[1]
    np.testing.assert_allclose(found, jax.jvp(attention.plain, qkv, qkv)[1], atol=3e-5)


def test_a_gpu_whose_cudnn_refuses_takes_chunks_and_says_so(monkeypatch, caplog):
    q, k, v = (a.astype(jnp.bfloat16) for a in arrays(SIZES[2])[:3])
    expected = attention.in_chunks(q, k, v)
    plain = jax.nn.dot_product_attention

    def refusing(q, k, v, implementation=None):
        if implementation == "cudnn":
            raise RuntimeError("cuDNN is not detected.")
        return plain(q, k, v)

    attention._log_refusal.cache_clear()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax.nn, "dot_product_attention", refusing)
    monkeypatch.setattr(attention.logger, "propagate", True)
    with caplog.at_level("WARNING"):
        found = attention.attend(q, k, v, efficient=True)
    np.testing.assert_array_equal(found, expected)
    assert "cuDNN is not detected." in caplog.text
