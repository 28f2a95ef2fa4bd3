"""The projection against the matrix written out, and against what the theory promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax.projection import (
    Projection,
    api,
    implementation_of,
    pallas_gpu,
    pallas_tpu,
    project,
    project_leaves,
    reference,
    xla,
)

KINDS = ["rademacher", "gaussian"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_matrix_is_the_reference_matrix(kind):
    rows = np.arange(1000, 1300)
    block = xla.BLOCKS[kind](7, jnp.asarray(rows, jnp.uint32), 96)
    expected = reference.matrix(kind, 7, rows, 96) * np.sqrt(96)
    if kind == "rademacher":
        np.testing.assert_array_equal(block, expected)
    else:
        np.testing.assert_allclose(block, expected, rtol=2e-3, atol=2e-5)


def test_no_gaussian_entry_is_infinite():
    """The largest and the smallest uniform number that a word can give, as the network's own
    arithmetic makes them."""
    words = jnp.array([0, 2**32 - 1], jnp.uint32)
    found = xla.normal(words)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, [-5.2947, 5.2947], atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [5, 256, 1000])
def test_projection_is_the_product_with_the_reference(kind, d):
    g = np.random.default_rng(0).standard_normal((4, d)).astype(np.float32)
    ours = project(g, Projection(64, kind, seed=3, tile=256))
    expected = reference.project(kind, 3, g, 64)
    assert np.linalg.norm(ours - expected) <= 1e-4 * np.linalg.norm(expected)


KERNELS = [pallas_tpu, pallas_gpu]
ids = [kernel.__name__.rpartition(".")[2] for kernel in KERNELS]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    ("kernel", "samples", "d", "k", "first_row"),
    [
        (pallas_tpu, 5, 1300, 96, 0),
        (pallas_tpu, 150, 40, 4128, 7),
        (pallas_gpu, 5, 1300, 96, 0),
        (pallas_gpu, 70, 40, 160, 7),
    ],
)
def test_a_kernel_makes_the_reference_matrix(kernel, dtype, samples, d, k, first_row):
    """Tails of samples, rows and columns; float32 loses nothing in its three bfloat16 parts."""
    g = jnp.asarray(np.random.default_rng(0).standard_normal((samples, d)), dtype)
    with jax.debug_nans(False):  # the interpreter fills what lies past an array with NaN
        ours = kernel.project(
            g, kind="rademacher", k=k, seed=3, tile=1, first_row=first_row, interpret=True
        )
    matrix = reference.matrix("rademacher", 3, np.arange(first_row, first_row + d), k)
    expected = np.asarray(g, np.float64) @ matrix
    assert np.linalg.norm(ours - expected) <= 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("kernel", KERNELS, ids=ids)
def test_a_kernel_refuses_what_it_cannot_make(kernel):
    with pytest.raises(NotImplementedError, match="got gaussian for float32"):
        kernel.project(jnp.ones((1, 4)), kind="gaussian", k=32, seed=0, tile=1)
    with pytest.raises(NotImplementedError, match="rademacher for float16"):
        kernel.project(jnp.ones((1, 4), jnp.float16), kind="rademacher", k=32, seed=0, tile=1)


def test_the_gpu_kernel_lowers_for_cuda():
    g = jax.ShapeDtypeStruct((32, 334_784), jnp.float32)
    projection = Projection(4096, implementation="pallas_gpu")
    lowered = jax.jit(lambda g: project(g, projection)).trace(g).lower(lowering_platforms=("cuda",))
    assert "triton" in lowered.as_text()


@pytest.mark.parametrize(
    ("projection", "backend", "chosen"),
    [
        (Projection(64), "cpu", "xla"),
        (Projection(64), "tpu", "pallas_tpu"),
        (Projection(64), "gpu", "pallas_gpu"),
        (Projection(64, "gaussian"), "tpu", "xla"),
        (Projection(64, implementation="xla"), "tpu", "xla"),
        (Projection(64, implementation="pallas_gpu"), "cpu", "pallas_gpu"),
    ],
)
def test_the_backend_chooses_unless_one_is_named(projection, backend, chosen):
    assert implementation_of(projection, backend) == chosen


@pytest.mark.parametrize("backend", ["tpu", "gpu"])
def test_what_a_kernel_does_not_serve_goes_to_plain_jax(backend):
    assert implementation_of(Projection(64), backend, jnp.float16) == "xla"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("small", [1, 100, 10**6])
def test_leaf_by_leaf_is_end_to_end(monkeypatch, kind, small):
    monkeypatch.setattr(api, "SMALL", small)
    rng = np.random.default_rng(0)
    shapes = {"a": (3, 5, 7), "b": (3,), "c": (3, 400), "d": (3, 2, 2)}
    tree = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    projection = Projection(64, kind, tile=50)
    flat = np.concatenate([leaf.reshape(3, -1) for leaf in tree.values()], axis=1)
    leaves = project_leaves(tree, projection)
    np.testing.assert_allclose(leaves, project(flat, projection), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_tile_batch_and_order_do_not_change_a_feature(kind):
    g = np.random.default_rng(1).standard_normal((6, 3000)).astype(np.float32)
    whole = project(g, Projection(128, kind, tile=4096))
    for tile in (1, 100, 1024, 3000):
        if tile == 1 and kind == "gaussian":
            continue  # thousands of steps of one row tell nothing that the other tiles do not
        tiled = project(g, Projection(128, kind, tile=tile))
        assert np.linalg.norm(tiled - whole) <= 1e-5 * np.linalg.norm(whole)
    alone = project(g[4:5], Projection(128, kind))
    assert np.linalg.norm(alone[0] - whole[4]) <= 1e-5 * np.linalg.norm(whole[4])


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_give_unrelated_matrices(kind):
    rows = np.arange(2000)
    a, b = (reference.matrix(kind, seed, rows, 64) * 8 for seed in (0, 1))
    assert abs(float((a * b).mean())) < 4 / np.sqrt(a.size)


@pytest.mark.parametrize("kind", KINDS)
def test_entries_have_mean_zero_variance_one_and_no_neighbours(kind):
    entries = reference.matrix(kind, 11, np.arange(4000), 256) * 16
    n = entries.size
    assert abs(entries.mean()) < 4 / np.sqrt(n)
    assert abs((entries**2).mean() - 1) < 4 * np.sqrt(2 / n) + 1e-12
    for other in (np.roll(entries, 1, 0), np.roll(entries, 1, 1), np.roll(entries, 32, 1)):
        assert abs((entries * other).mean()) < 4 / np.sqrt(n)


@pytest.mark.parametrize("kind", KINDS)
def test_norms_and_inner_products_are_kept_as_the_theory_says(kind):
    """200 random vectors: E<phi, phi'> = <g, g'>, and for unit vectors
    Var<phi, phi'> = (1 + cos^2 - kappa) / k with kappa = 0 (gaussian) or 2 sum g^2 g'^2 (signs)."""
    count, d, k = 200, 2048, 512
    rng = np.random.default_rng(4)
    shared = rng.standard_normal(d)
    g = rng.standard_normal((count, d)) + 0.5 * shared
    g = (g / np.linalg.norm(g, axis=1, keepdims=True)).astype(np.float32)
    # Independent matrices, so that the errors of one vector pair are independent draws.
    firsts, seconds = np.arange(0, count, 2), np.arange(1, count, 2)
    products, norms = [], []
    for seed in range(20):
        phi = np.asarray(project(g, Projection(k, kind, seed=seed)), np.float64)
        products.append((phi[firsts] * phi[seconds]).sum(1))
        norms.append((phi**2).sum(1))
    cosine = (g[firsts] * g[seconds]).sum(1).astype(np.float64)
    kappa = 0.0 if kind == "gaussian" else 2 * (g[firsts] ** 2 * g[seconds] ** 2).sum(1)
    predicted = (1 + cosine**2 - kappa) / k
    error = np.array(products) - cosine
    # Pairs under one matrix share it: the error of the mean is judged by the spread over seeds.
    by_seed = error.mean(1)
    assert abs(by_seed.mean()) < 3 * by_seed.std(ddof=1) / np.sqrt(len(by_seed))
    assert (error**2).mean() == pytest.approx(predicted.mean(), rel=0.2)
    norm_error = np.array(norms) - 1
    by_seed = norm_error.mean(1)
    assert abs(by_seed.mean()) < 3 * by_seed.std(ddof=1) / np.sqrt(len(by_seed))
    fourth = 0.0 if kind == "gaussian" else (g.astype(np.float64) ** 4).sum(1).mean()
    assert (norm_error**2).mean() == pytest.approx(2 * (1 - fourth) / k, rel=0.2)


@pytest.mark.parametrize("kind", KINDS)
def test_peak_memory_does_not_grow_with_the_matrix(kind):
    def temporaries(d, k, tile):
        g = jax.ShapeDtypeStruct((4, d), jnp.float32)
        fn = jax.jit(lambda g: project(g, Projection(k, kind, tile=tile)))
        memory = fn.lower(g).compile().memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes

    tile, k = 256, 2048
    small, large = temporaries(10_000, k, tile), temporaries(160_000, k, tile)
    assert large <= small * 1.1 + 4 * 160_000 * 4  # at most a copy of the input beside the tile
    assert large < 160_000 * k * 4 / 50


@pytest.mark.parametrize(
    ("projection", "message"),
    [
        (Projection(100), "multiple of 32; try 96"),
        (Projection(0), "try 32"),
        (Projection(64, "sparse"), "'sparse' is not known"),  # type: ignore[arg-type]
        (Projection(64, implementation="cuda"), "'cuda' is not known"),  # type: ignore[arg-type]
        (Projection(64, tile=0), "tile=0"),
        (Projection(64, seed=-1), "seed=-1"),
    ],
)
def test_bad_projections_say_what_to_do(projection, message):
    with pytest.raises(ValueError, match=message):
        project(jnp.zeros((1, 8)), projection)
