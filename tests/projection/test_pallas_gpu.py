"""The GPU kernel: its own body under Pallas' interpreter, its sums as tensor cores make them."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams
from jax.experimental.pallas import mosaic_gpu
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, PartitionSpec, use_abstract_mesh

from ctrak_jax.projection import Projection, kernels, pallas_gpu, project, reference, xla

H100 = "NVIDIA H100 80GB HBM3"


@pytest.fixture
def interpreter(monkeypatch):
    """What the interpreter lacks is put in plain words: sums in shared memory for those in
    registers, and products that round."""

    def wgmma(total, sign, shared):
        shared = replace(shared, transforms=shared.transforms[:-1])  # before the transposition
        total[...] += jnp.dot(
            sign.astype(jnp.float32), shared[...].astype(jnp.float32).T, precision="highest"
        )

    def iota(dtype, shape, axis, layout):
        return lax.broadcasted_iota(dtype, shape, axis)

    monkeypatch.setattr(mosaic_gpu, "WGMMAAccumulatorRef", mosaic_gpu.SMEM)
    monkeypatch.setattr(mosaic_gpu, "wgmma", wgmma)
    monkeypatch.setattr(mosaic_gpu, "broadcasted_iota", iota)
    monkeypatch.setattr(pallas_gpu, "STRETCHES", 2)
    monkeypatch.setattr(pallas_gpu, "STRETCH_ROWS", 320)
    monkeypatch.setattr(pallas_gpu, "COLUMNS", 24)
    return InterpretGPUParams(uninitialized_memory="zero")


@pytest.mark.parametrize(
    ("samples", "d", "k", "first_row", "dtype"),
    [
        pytest.param(3, 1300, 96, 7, jnp.float32, id="two passes of five steps, and a rest"),
        pytest.param(9, 70, 64, 0, jnp.float32, id="two slices of samples"),
        pytest.param(9, 70, 64, 2**31 + 5, jnp.bfloat16, id="one part, rows beyond int32"),
        pytest.param(1, 40, 2080, 0, jnp.float32, id="one word more than a program holds"),
    ],
)
def test_the_kernel_makes_the_reference_matrix(interpreter, samples, d, k, first_row, dtype):
    g = jnp.asarray(np.random.default_rng(0).standard_normal((samples, d)), dtype)
    ours = pallas_gpu.project(
        g, kind="rademacher", k=k, seed=3, tile=1, first_row=first_row, interpret=interpreter
    )
    matrix = reference.matrix("rademacher", 3, np.arange(first_row, first_row + d), k, d)
    expected = np.asarray(g, np.float64) @ matrix
    assert np.linalg.norm(ours - expected) <= 1e-6 * np.linalg.norm(expected)


def truncated(x: np.ndarray) -> np.ndarray:
    """float64 -> float32, towards zero."""
    near = x.astype(np.float32)
    return np.where(abs(near) > abs(x), np.nextafter(near, np.float32(0.0)), near)


def error_of_truncated_sums(rows: int) -> float:
    """Of one stretch, whose running sums lose digits after every 16 rows."""
    samples, words = 4, 2
    g = jnp.asarray(np.random.default_rng(0).standard_normal((samples, rows)), jnp.float32)
    flat = np.asarray(jnp.concatenate(xla.bfloat16_parts(g)), np.float64)
    word, row = (axis.astype(jnp.uint32) for axis in jnp.indices((words, rows)))
    packed = pallas_gpu.packed_signs(row, word, 3)
    found = np.zeros((1, reference.WORD, words, 3 * samples), np.float32)
    for bit in range(reference.WORD):
        half = (packed >> (bit // 16 * 16)).astype(jnp.uint16)
        sign = np.asarray(pallas_gpu.sign_of(half, bit % 16), np.float64)
        total = np.zeros((words, 3 * samples), np.float32)
        for i in range(0, rows, 16):
            total = truncated(total + sign[:, i : i + 16] @ flat[:, i : i + 16].T)
        found[0, bit] = total
    ours = pallas_gpu.collect(jnp.asarray(found), samples, 3, words * reference.WORD)
    matrix = reference.matrix("rademacher", 3, np.arange(rows), words * reference.WORD, rows)
    expected = np.asarray(g, np.float64) @ matrix * np.sqrt(words * reference.WORD)
    return float(np.linalg.norm(ours - expected) / np.linalg.norm(expected))


def test_a_running_sum_is_short_enough_for_tensor_cores():
    """They truncate: an H200 gave 1.6e-6 at 21,463 rows, 5.1e-6 at 85,852."""
    assert error_of_truncated_sums(pallas_gpu.STRETCH_ROWS) < 1e-6


@pytest.mark.parametrize("samples", [1, 8, 9, 21, 32, 64, 65, 200])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_every_batch_has_a_program_that_fits_a_multiprocessor(monkeypatch, samples, dtype):
    made = []

    def kernel(columns, steps, stretches, blocks, *_):
        made.append((columns, steps * stretches * pallas_gpu.ROWS))
        shape = (stretches, reference.WORD, blocks * pallas_gpu.WORDS, columns)
        return lambda first, flat: jnp.zeros(shape)

    monkeypatch.setattr(pallas_gpu, "_kernel", kernel)
    g = jax.ShapeDtypeStruct((samples, 3_000_000), dtype)
    run = partial(pallas_gpu.project, kind="rademacher", k=4096, seed=0, tile=1)
    assert jax.eval_shape(run, g).shape == (samples, 4096)
    for columns, rows in made:
        tuning = next(tuning for most, tuning in pallas_gpu.HOPPER.items() if columns <= most)
        assert columns % 8 == 0
        assert 16 % tuning.bits == 0  # signs are made in half words
        assert tuning.bits * columns // 2 <= 192  # registers of a thread that hold sums
        assert tuning.stages * columns * pallas_gpu.ROWS * 2 <= 113 * 1024  # two programs
        assert rows <= pallas_gpu.STRETCHES * pallas_gpu.STRETCH_ROWS


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_kernel_lowers_for_cuda(dtype, devices):
    """For one GPU and for samples split over four."""
    gpu = AbstractDevice(H100, num_cores=132, platform="gpu")
    mesh = AbstractMesh((devices,), ("samples",), (AxisType.Auto,), abstract_device=gpu)
    run = partial(pallas_gpu.project, kind="rademacher", k=4096, seed=0, tile=1)
    if devices > 1:
        split = PartitionSpec("samples")
        run = jax.shard_map(run, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)
    with use_abstract_mesh(mesh):
        traced = jax.jit(run).trace(jax.ShapeDtypeStruct((32, 2_500_000), dtype))
        lowered = traced.lower(lowering_platforms=("cuda",))
    assert "mosaic_gpu" in lowered.as_text()


@pytest.mark.parametrize("capability", ["8.0", "10.0", "gfx942"])
def test_other_gpus_are_refused(monkeypatch, capability):
    monkeypatch.setattr(kernels, "compute_capability", lambda: capability)
    with pytest.raises(NotImplementedError, match=f"9.0 .* got {capability}"):
        project(jnp.ones((1, 4)), Projection(32, implementation="pallas_gpu"))
