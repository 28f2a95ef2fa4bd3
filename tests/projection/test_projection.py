"""The projection against the matrix written out, and against what the theory promises."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax.projection import (
    Projection,
    api,
    implementation_of,
    mask,
    pallas_gpu,
    pallas_tpu,
    project,
    project_leaves,
    reference,
    sjlt,
    xla,
)

KINDS = api.KINDS


@pytest.mark.parametrize("kind", xla.BLOCKS)
def test_the_matrix_is_the_reference_matrix(kind):
    rows = np.arange(1000, 1300)
    block = xla.BLOCKS[kind](7, jnp.asarray(rows, jnp.uint32), 96)
    expected = reference.matrix(kind, 7, rows, 96, 1300) * np.sqrt(96)
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
@pytest.mark.parametrize(
    ("k", "first_row", "d"),
    [
        (64, 0, 5),
        (32, 0, 1000),
        (96, 130, 700),
        (4128, 4500, 700),
        pytest.param(64, 0, 256, marks=pytest.mark.slow),
        pytest.param(96, 7, 40, marks=pytest.mark.slow),
    ],
)
def test_projection_is_the_product_with_the_reference(kind, k, first_row, d):
    """Among 6,000 rows; groups and blocks cut at both ends, k of other factors than two."""
    g = np.random.default_rng(0).standard_normal((4, d)).astype(np.float32)
    ours = project(g, Projection(k, kind, seed=3, tile=256), first_row=first_row, rows=6000)
    rows = np.arange(first_row, first_row + d)
    expected = g.astype(np.float64) @ reference.matrix(kind, 3, rows, k, 6000)
    assert (ours.dtype, ours.shape) == (jnp.float32, (4, k))
    assert np.linalg.norm(ours - expected) <= 1e-4 * np.linalg.norm(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_gradients_are_summed_in_float32(kind):
    g = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3000)), jnp.bfloat16)
    ours = project(g, Projection(64, kind))
    assert ours.dtype == jnp.float32
    np.testing.assert_array_equal(ours, project(g.astype(jnp.float32), Projection(64, kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_matrix_is_fixed_by_its_seed(kind):
    g = np.random.default_rng(0).standard_normal((2, 3000)).astype(np.float32)
    first, again, other = (project(g, Projection(64, kind, seed=s)) for s in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.linalg.norm(first - other) > 0.5 * np.linalg.norm(first)


KERNELS = [pallas_tpu, pallas_gpu]
ids = [kernel.__name__.rpartition(".")[2] for kernel in KERNELS]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(("samples", "d", "k", "first_row"), [(5, 1300, 96, 0), (150, 40, 4128, 7)])
def test_the_tpu_kernel_makes_the_reference_matrix(dtype, samples, d, k, first_row):
    """Tails of samples, rows and columns; float32 loses nothing in its three bfloat16 parts."""
    g = jnp.asarray(np.random.default_rng(0).standard_normal((samples, d)), dtype)
    with jax.debug_nans(False):  # the interpreter fills what lies past an array with NaN
        ours = pallas_tpu.project(
            g, kind="rademacher", k=k, seed=3, tile=1, first_row=first_row, interpret=True
        )
    matrix = reference.matrix("rademacher", 3, np.arange(first_row, first_row + d), k, d)
    expected = np.asarray(g, np.float64) @ matrix
    assert np.linalg.norm(ours - expected) <= 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("kernel", KERNELS, ids=ids)
def test_a_kernel_refuses_what_it_cannot_make(kernel):
    name = kernel.__name__.rpartition(".")[2]
    for kind in set(KINDS) - {"rademacher"}:
        with pytest.raises(NotImplementedError, match=f"got {kind} for float32"):
            project(jnp.ones((1, 4)), Projection(32, kind, implementation=name))
    with pytest.raises(NotImplementedError, match="rademacher for float16"):
        kernel.project(jnp.ones((1, 4), jnp.float16), kind="rademacher", k=32, seed=0, tile=1)


@pytest.mark.parametrize(
    ("projection", "backend", "chosen"),
    [
        (Projection(64), "cpu", "xla"),
        (Projection(64), "tpu", "pallas_tpu"),
        (Projection(2048), "gpu", "pallas_gpu"),
        (Projection(64), "gpu", "xla"),
        *((Projection(64, kind), "tpu", "xla") for kind in KINDS if kind != "rademacher"),
        *((Projection(4096, kind), "gpu", "xla") for kind in KINDS if kind != "rademacher"),
        (Projection(64, implementation="xla"), "tpu", "xla"),
        (Projection(64, implementation="pallas_gpu"), "cpu", "pallas_gpu"),
    ],
)
def test_the_backend_chooses_unless_one_is_named(projection, backend, chosen):
    assert implementation_of(projection, backend, capability="9.0") == chosen


@pytest.mark.parametrize("backend", ["tpu", "gpu"])
def test_what_a_kernel_does_not_serve_goes_to_plain_jax(backend):
    assert implementation_of(Projection(4096), backend, jnp.float16, "9.0") == "xla"


@pytest.mark.parametrize("capability", [None, "8.0", "8.9", "10.0", "gfx942"])
def test_gpus_of_other_kinds_take_plain_jax(capability):
    """A100, L4, B200, an AMD GPU, and a machine that has none."""
    assert implementation_of(Projection(4096), "gpu", capability=capability) == "xla"


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(("samples", "d", "tile"), [(1, 1000, 256), (5, 700, 1024), (40, 96, 96)])
def test_signs_in_half_precision_lose_nothing(dtype, samples, d, tile):
    """The form for GPUs, as near to the product in float64 as the other; scales vary by 10^6."""
    rng = np.random.default_rng(0)
    g = jnp.asarray(rng.standard_normal((samples, d)) * 10.0 ** rng.uniform(-3, 3, d), dtype)
    run = partial(xla.project, kind="rademacher", k=96, seed=3, tile=tile, first_row=7)
    expected = np.asarray(g, np.float64) @ reference.matrix(
        "rademacher", 3, np.arange(7, 7 + d), 96, d
    )
    for half in (True, False):
        ours = jax.jit(partial(run, half=half))(g)
        assert ours.dtype == jnp.float32
        assert np.linalg.norm(ours - expected) <= 5e-7 * np.linalg.norm(expected)


def test_gpus_have_a_form_and_tiles_of_their_own(monkeypatch):
    g = np.random.default_rng(0).standard_normal((3, 500)).astype(np.float32)
    run = partial(project, projection=Projection(64, implementation="xla"))
    assert "bf16" not in str(jax.make_jaxpr(lambda g: run(g))(g))
    expected = run(g)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "bf16[500,64]" in str(jax.make_jaxpr(lambda g: run(g))(g))
    np.testing.assert_allclose(run(g), expected, rtol=1e-5, atol=1e-5)
    tiles = [api.rows_per_step(Projection(64, kind), "gpu") for kind in KINDS]
    assert dict(zip(KINDS, tiles, strict=True)) == dict.fromkeys(KINDS, 1024) | {
        "rademacher": 8192,
        "srht": 2**20,
    }
    assert api.rows_per_step(Projection(64, "srht", tile=5), "gpu") == 5
    assert api.rows_per_step(Projection(64, "srht"), "cpu") == 1024


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
    for tile in (1, 100, 1024):
        if tile == 1 and kind != "rademacher":
            continue  # thousands of steps of one row tell nothing that the other tiles do not
        tiled = project(g, Projection(128, kind, tile=tile))
        assert np.linalg.norm(tiled - whole) <= 1e-5 * np.linalg.norm(whole)
    first = project(g[:, :127], Projection(128, kind), rows=3000)
    rest = project(g[:, 127:], Projection(128, kind), first_row=127)
    assert np.linalg.norm(first + rest - whole) <= 1e-5 * np.linalg.norm(whole)
    alone = project(g[4:5], Projection(128, kind))
    assert np.linalg.norm(alone[0] - whole[4]) <= 1e-5 * np.linalg.norm(whole[4])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "mask"])
def test_seeds_give_unrelated_matrices(kind):
    """Of signed entries; a mask's are all positive and in order."""
    rows = np.arange(2000)
    a, b = (reference.matrix(kind, seed, rows, 64, 2000) * 8 for seed in (0, 1))
    assert abs(float((a * b).mean())) < 4 / np.sqrt(a.size)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "mask"])
def test_entries_have_mean_zero_variance_one_and_no_neighbours(kind):
    entries = reference.matrix(kind, 11, np.arange(4000), 256, 4000) * 16
    n = entries.size
    assert abs(entries.mean()) < 4 / np.sqrt(n)
    assert abs((entries**2).mean() - 1) < 4 * (entries**2).std() / np.sqrt(n) + 1e-12
    for other in (np.roll(entries, 1, 0), np.roll(entries, 1, 1), np.roll(entries, 32, 1)):
        assert abs((entries * other).mean()) < 4 / np.sqrt(n)


def groups_of(kind: str, rows: np.ndarray, k: int) -> np.ndarray | None:
    """Rows of one group have no part in the variance of equation (5.8)."""
    size = {"rademacher": 1, "sjlt": k // reference.NONZEROS, "srht": reference.block_rows(k)}
    return rows // size[kind] if kind in size else None


def predicted_variance(kind: str, g: np.ndarray, h: np.ndarray, k: int) -> np.ndarray:
    """Var<phi, phi'> of pairs [pair, d]: equation (5.8), and of ``mask``."""
    d = g.shape[1]
    if kind == "mask":
        return d / k * (d - k) / (d - 1) * d * (g * h).var(1)

    def all_pairs(g: np.ndarray, h: np.ndarray) -> np.ndarray:
        return (g**2).sum(-1) * (h**2).sum(-1) + (g * h).sum(-1) ** 2

    total = all_pairs(g, h)
    groups = groups_of(kind, np.arange(d), k)
    if groups is not None:
        cuts = np.flatnonzero(np.diff(groups)) + 1
        parts = zip(np.split(g, cuts, axis=1), np.split(h, cuts, axis=1), strict=True)
        total = total - sum(all_pairs(*part) for part in parts)
    return total / k


@pytest.mark.parametrize("kind", KINDS)
def test_norms_and_inner_products_are_kept_as_the_theory_says(kind):
    """200 random vectors, unrelated and correlated: E<phi, phi'> = <g, g'>, and the variance is
    that of equation (5.8)."""
    count, d, k = 200, 2048, 384
    rng = np.random.default_rng(4)
    g = rng.standard_normal((count, d))
    firsts, seconds = np.arange(0, count, 2), np.arange(1, count, 2)
    g[seconds[::2]] += g[firsts[::2]]
    g = (g / np.linalg.norm(g, axis=1, keepdims=True)).astype(np.float32)
    # Independent matrices, so that the errors of one vector pair are independent draws.
    products, norms = [], []
    for seed in range(20):
        phi = np.asarray(project(g, Projection(k, kind, seed=seed)), np.float64)
        products.append((phi[firsts] * phi[seconds]).sum(1))
        norms.append((phi**2).sum(1))
    exact = g.astype(np.float64)
    for found, a, b in (
        (np.array(products), exact[firsts], exact[seconds]),
        (np.array(norms), exact, exact),
    ):
        error = found - (a * b).sum(1)
        # Pairs under one matrix share it: the mean's error is judged by the spread over seeds.
        by_seed = error.mean(1)
        assert abs(by_seed.mean()) < 3 * by_seed.std(ddof=1) / np.sqrt(len(by_seed))
        predicted = predicted_variance(kind, a, b, k).mean()
        assert (error**2).mean() == pytest.approx(predicted, rel=0.2)


@pytest.mark.parametrize("k", [64, 96, 4128])
@pytest.mark.parametrize("kind", ["sjlt", "srht"])
def test_rows_of_a_group_are_orthogonal(kind, k):
    rows = np.arange(300)
    gram = reference.matrix(kind, 5, rows, k, 300)
    gram = gram @ gram.T
    groups = groups_of(kind, rows, k)
    assert groups is not None
    together = groups[:, None] == groups[None]
    np.testing.assert_allclose(gram[together], np.eye(300)[together], atol=1e-12)


@pytest.mark.parametrize("size", [8, 24, 64, 8 * 127])
def test_an_order_of_a_group_is_a_permutation_and_has_no_favourites(size):
    """Of 400 groups: every row once, and each (column, row) met as often as chance has it."""
    k = size * reference.NONZEROS
    groups = jnp.arange(400, dtype=jnp.uint32)
    orders = np.asarray(jax.jit(jax.vmap(lambda group: sjlt.orders(2, group, k)))(groups))
    np.testing.assert_array_equal(np.sort(orders, axis=2), np.arange(size) + np.zeros_like(orders))
    met = np.zeros((size, size))
    np.add.at(met, (np.broadcast_to(np.arange(size), orders.shape), orders), 1)
    expected = orders.size / size**2
    # Each row and each column of the table is full: (size - 1)^2 degrees of freedom.
    free = (size - 1) ** 2
    chi2 = ((met - expected) ** 2 / expected).sum() * (size - 1) / size
    assert abs(chi2 - free) < 5 * np.sqrt(2 * free)


@pytest.mark.parametrize(("k", "d"), [(32, 32), (64, 1000), (4096, 334_784)])
def test_the_mask_is_k_coordinates_spread_evenly(k, d):
    chosen = mask.coordinates(3, k, d)
    assert (len(np.unique(chosen)), len(chosen)) == (k, k)
    assert (np.diff(chosen) > 0).all()
    assert chosen[0] >= 0
    assert chosen[-1] < d
    uniform = (np.arange(k) + 0.5) / k
    assert np.abs((chosen + 0.5) / d - uniform).max() <= 1.63 / np.sqrt(k)  # Kolmogorov, 1%


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
        (Projection(64, "mask"), "k=64 coordinates cannot be chosen from 8 parameters; use k <= 8"),
    ],
)
def test_bad_projections_say_what_to_do(projection, message):
    with pytest.raises(ValueError, match=message):
        project(jnp.zeros((1, 8)), projection)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_the_matrix_does_not_have_are_refused(kind):
    with pytest.raises(ValueError, match=r"rows 90 to 98 of R .* rows=97"):
        project(jnp.zeros((1, 8)), Projection(32, kind), first_row=90, rows=97)
    with pytest.raises(ValueError, match="give first_row >= 0"):
        project(jnp.zeros((1, 8)), Projection(32, kind), first_row=-1)
