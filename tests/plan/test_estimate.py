"""Plans without a compiler: programs whose cost is known by hand, and a network by fewer blocks."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from ctrak_jax.config import Config, load
from ctrak_jax.devices import local_mesh
from ctrak_jax.plan import blocks, estimate, traced
from ctrak_jax.plan.compiling import step_of

N = 64


def shape(*sides: int, dtype=jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sides, dtype)


@pytest.mark.parametrize(
    ("dtype", "precision", "passes"),
    [(jnp.float32, "highest", 6), (jnp.float32, "default", 1), (jnp.bfloat16, "highest", 1)],
)
def test_a_loop_costs_as_often_as_it_runs(dtype, precision, passes):
    def fn(w, x):
        def turn(x, _):
            return jnp.tanh(jnp.matmul(x, w.T, precision=precision)), None

        return jax.lax.scan(turn, x, None, length=5)[0]

    program = traced.traced(fn, shape(N, N, dtype=dtype), shape(3, N, dtype=dtype))
    found = traced.work(program, program.given[:1])
    assert found.flops == 5 * 2 * 3 * N * N
    assert found.passes == passes * found.flops
    assert found.bytes == 5 * N * N * jnp.dtype(dtype).itemsize


def test_arrays_live_from_where_they_are_made_to_where_they_are_read():
    def one_after_the_other(x):
        return sum(jnp.sum(jnp.sin((x + i) @ x)) for i in range(6))

    def all_at_once(x):
        products = [(x + i) @ x for i in range(6)]
        return sum(jnp.sum(a @ b) for a, b in zip(products, products[::-1], strict=True))

    size = 4 * N * N
    few, many = (
        traced.temporaries(traced.traced(fn, shape(N, N)))
        for fn in (one_after_the_other, all_at_once)
    )
    assert size <= few < 2 * size
    assert 3 * size <= many < 8 * size


def test_what_is_computed_again_takes_no_memory_in_between():
    """Ten layers of four products each, of which a checkpoint keeps the input alone."""

    def layer(x, w):
        for _ in range(4):
            x = jnp.sin(x @ w)
        return x

    def loss(block):
        def fn(w, x):
            for _ in range(10):
                x = block(x, w)
            return jnp.sum(x)

        return jax.grad(fn)

    kept, again = (
        traced.temporaries(traced.traced(loss(block), shape(N, N), shape(N, N)))
        for block in (layer, jax.checkpoint(layer))
    )
    size = 4 * N * N
    assert kept >= 40 * size
    assert 10 * size <= again <= 20 * size


def test_a_copy_in_another_dtype_is_kept_over_a_loop():
    def fn(w, x):
        y = w.astype(jnp.bfloat16)[0]
        turn = lambda x, _: (x @ w.astype(jnp.bfloat16), None)  # noqa: E731
        return jax.lax.scan(turn, x, None, length=3)[0] + y

    program = traced.traced(fn, shape(N, N), shape(N, dtype=jnp.bfloat16))
    assert list(traced.loop_copies(program).values()) == [2 * N * N]

    def outside(w, x):
        return x @ w.astype(jnp.bfloat16)

    program = traced.traced(outside, shape(N, N), shape(N, dtype=jnp.bfloat16))
    assert not traced.loop_copies(program)


def test_a_line_in_the_blocks_of_every_kind():
    whole = {"double": 19, "single": 38}
    shallow = blocks.shallow(whole)
    assert shallow[0] == {"double": 2, "single": 2}
    assert shallow[1:] == [{"double": 3, "single": 2}, {"double": 2, "single": 3}]

    def taken(found):
        total = 100.0 + 7 * found["double"] + 11 * found["single"]
        return {"arguments": total, "flops": 2.0 * total}

    assert blocks.extrapolated([taken(few) for few in shallow], shallow, whole) == taken(whole)
    assert blocks.shallow({"plain": 3}) == [{"plain": 3}]


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Config:
    """Stable Diffusion 3's JSON files, of a small network of six blocks."""
    folder = tmp_path_factory.mktemp("model") / "sd3"
    shutil.copytree("configs/sd35-medium", folder)
    file, sides = folder / "transformer" / "config.json", {"num_layers": 6, "sample_size": 8}
    sides |= {"num_attention_heads": 2, "attention_head_dim": 8, "caption_projection_dim": 16}
    sides |= {"joint_attention_dim": 32, "pooled_projection_dim": 16, "qk_norm": None}
    sides |= {"pos_embed_max_size": 8, "dual_attention_layers": []}
    file.write_text(json.dumps(json.loads(file.read_text()) | sides))
    changes = {"model.checkpoint": str(folder), "projection.k": "64", "trajectory.timesteps": "1"}
    return load(Path("configs/sd35-medium.yaml"), changes)


def test_few_blocks_and_samples_say_what_all_take(small):
    """FLOPs and weights exactly, and temporaries nearly."""
    step = step_of(small, local_mesh(1), 1)
    line = estimate._per_batch(small, step, 1)
    whole = estimate._taken(step, 3)
    found = {name: one + 2 * more for name, (one, more) in line.items()}
    for name in ("arguments", "outputs", "flops", "passes", "bytes"):
        assert found[name] == pytest.approx(whole[name], rel=1e-9), name
    assert found["temporaries"] == pytest.approx(whole["temporaries"], rel=0.05)


def test_weights_in_parts_and_what_does_not_fit(small, monkeypatch):
    line = {"arguments": (8.0, 4.0), "outputs": (4.0, 4.0), "temporaries": (2.0**30, 2.0**30)}
    line |= dict.fromkeys(("flops", "passes", "bytes"), (1.0, 1.0))
    monkeypatch.setattr(estimate, "_per_batch", lambda *_: line)
    in_parts = small.model_copy(update={"mesh": small.mesh.model_copy(update={"model": 4})})
    held = []
    for config in (small, in_parts):
        about, *programs = estimate.estimated(config, "v5e:2x2", 1, 1, False)
        held.append(programs[0]["memory"]["arguments"])
        assert [program["batch"] for program in programs if program["memory"]][-1] == 8
        # 16 samples take 16 GiB, and there are the weights.
        assert not estimate.estimated(config, "v5e:2x2", 1, 16, True)[1]["memory"]
        assert about["parameters"] < about["network_parameters"]
    whole = 2 * about["network_parameters"]
    assert held[0] == whole + 8
    assert whole / 4 < held[1] < whole / 3
