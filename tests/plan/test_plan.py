"""ctrak plan: its arithmetic by hand, what it reads from programs, and one real plan."""

import json
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from ctrak_jax import cli, plan
from ctrak_jax import schedule as schedules
from ctrak_jax.attribution.train import passes
from ctrak_jax.config import Config, ProjectionConfig, StoreConfig
from ctrak_jax.config.scoring import UnnamedConfig
from ctrak_jax.errors import UsageError
from ctrak_jax.methods import METHODS
from ctrak_jax.models import SIZES, DiT, create
from ctrak_jax.models.denoiser import eps_fn_of
from ctrak_jax.plan import chips, hlo, show
from ctrak_jax.plan.bounds import Taken, largest_batch, roofline, store_bytes
from ctrak_jax.plan.chips import GIB, Chip
from ctrak_jax.run.variants import feature_sets
from ctrak_jax.store import FeatureStore
from ctrak_jax.trajectory import grid, invert
from tests.command import ctrak
from tests.libtpu import needs_libtpu

CHIP = Chip(hbm=16 * GIB, bandwidth=800e9, flops=200e12, source="here")
ABOUT = {"devices": 8, "chips": 4, "gradients": 2, "parameters": 1_000_000, "searched": True}
ABOUT |= {"network_parameters": 4_000_000}
ALONE = Config(controls=(), unnamed=UnnamedConfig(attributes=()))
"""Main features alone."""
PROGRAM = {
    "batch": 10,
    "memory": {"arguments": 1 * GIB, "outputs": 0, "temporaries": 2 * GIB, "code": 0},
    "compile_s": 1.0,
    "flops": 5e12,
    "passes": 6e12,
    "bytes": 4e9,
    "collectives": {},
}


def forward_flops(size: str, side: int, channels: int, condition: int) -> float:
    """Of the network for one image, from its matrices' shapes."""
    width, depth, _, patch = SIZES[size]
    tokens, hidden, pixels = (side // patch) ** 2, int(8 * width / 3), patch * patch * channels
    block = tokens * (4 * width * width + 3 * width * hidden)  # qkv, proj; w12, w3
    block += 2 * tokens * tokens * width  # queries by keys, weights by values
    block += 6 * width * width  # modulation
    outside = 2 * tokens * pixels * width  # patch embedding, final
    outside += 256 * width + width * width + condition * width + 2 * width * width
    return 2.0 * (depth * block + outside)


def test_the_roofline_is_the_slower_of_the_two():
    """2e12 / 200e12 = 10 ms; 4e9 / 800e9 = 5 ms and 16e9 / 800e9 = 20 ms; 10 samples a call."""
    compute = roofline(CHIP, passes=2e12, traffic=4e9, batch=10)
    memory = roofline(CHIP, passes=2e12, traffic=16e9, batch=10)
    assert compute == (pytest.approx(1e-3), "matrix unit")
    assert memory == (pytest.approx(2e-3), "memory")


@pytest.mark.parametrize("kernel", [True, False])
def test_a_report_step_by_step(kernel):
    """Two devices a chip: 20 samples, 6 GiB, 10e12 FLOPs, 12e12 in passes and 8e9 bytes a call.

    The projection of a sample is 2 * 1e6 * 4000 * 2 = 16e9 FLOPs, 320e9 a call, 960e9 in passes:
    12.96e12 / 200e12 = 64.8 ms a call with the kernel, 60 ms without; memory takes 10 ms.
    """
    config = ALONE.model_copy(update={"projection": ProjectionConfig(k=4000)})
    about = ABOUT | {"projection": "pallas_tpu" if kernel else "xla"}
    found = plan.report(config, "v5e:2x2", CHIP, about, [PROGRAM], 1_000_000)
    (row,) = found["programs"]
    seconds = 64.8e-3 / 20 if kernel else 60e-3 / 20
    assert row["batch_per_chip"] == found["largest_batch_per_chip"] == 20
    assert row["memory"]["total"] == 6 * GIB
    assert row["share_of_hbm"] == 6 / 16
    assert row["projection_flops_per_sample"] == 16e9
    assert row["flops_per_sample"] == pytest.approx(516e9 if kernel else 500e9)
    assert row["passes_per_sample"] == pytest.approx(648e9 if kernel else 600e9)
    assert row["bytes_per_sample"] == 4e8
    assert row["seconds_per_sample"] == pytest.approx(seconds)
    assert row["bound_by"] == "matrix unit"
    assert row["samples_per_second"] == {
        n: pytest.approx(int(n) / seconds) for n in ("1", "8", "64", "256")
    }
    assert row["hours"] == pytest.approx(1_000_000 * seconds / 4 / 3600)
    assert "asked, largest" in show.text(found)


def test_every_set_of_a_run_is_counted():
    """Of two gradients on forward noise, 10 passes of 200e12 FLOPs per sample: with labels of one
    attribute left out both again, of 300 candidates; with wrong labels D-TRAK's; of two models."""
    settings = {
        "methods": ["concept-trak", "d-trak"],
        "unnamed": {"attributes": ["color"], "candidates": 300},
        "run": {"seeds": [0, 1]},
    }
    config, about = Config.model_validate(settings), ABOUT | {"projection": "xla"}
    found = plan.report(config, "v5e:2x2", CHIP, about, [PROGRAM], 1000)
    assert found["sets"] == [
        {"name": "main", "samples": 1000, "gradients": 2},
        {"name": "wrong-label", "samples": 1000, "gradients": 1},
        {"name": "without color", "samples": 300, "gradients": 2},
    ]
    (row,) = found["programs"]
    assert row["hours"] == pytest.approx(
        2 * (1000 + 1000 / 2 + 300) * row["seconds_per_sample"] / 4 / 3600
    )
    one = plan.report(ALONE, "v5e:2x2", CHIP, about, [PROGRAM], 1000)["store_bytes"] / 4
    small = plan.report(ALONE, "v5e:2x2", CHIP, about, [PROGRAM], 300)["store_bytes"] / 4
    assert found["store_bytes"] == pytest.approx(2 * (3 * one + 2 * small), rel=0.02)
    text = show.text(found)
    assert "3 sets for each of 2 models: main, 1,000 samples, 2 gradients; wrong-label" in text
    assert "without color, 300 samples" in text


def test_inversions_and_gradients_are_counted_in_forward_passes():
    """Three timesteps 5 steps apart, two negatives: 2 * 15 guided steps of 2 evaluations and
    2 * 3 gradients of 4; not guided one inversion; under the null condition the same."""
    guided = METHODS["ablation-c"].train
    assert guided is not None
    free, noise = guided._replace(condition="null"), guided._replace(path="forward")
    settings = {"timesteps": 3, "stride": 5, "negatives": 2}
    for specs, guidance, wanted in (
        ([noise], 2.0, 12),
        ([guided], 2.0, 60 + 24),
        ([guided], 1.0, 15 + 12),
        ([free], 2.0, 15 + 12),
        ([guided, guided._replace(normalise=True), free, noise], 2.0, 60 + 2 * 24 + 27 + 12),
    ):
        assert passes(specs, guidance=guidance, **settings) == wanted


def test_a_program_that_nowhere_fits_is_refused():
    nowhere = PROGRAM | {"batch": 1, "memory": None}
    with pytest.raises(UsageError, match="batch of 2 per chip does not fit in 16 GiB"):
        plan.report(Config(), "v5e:2x2", CHIP, ABOUT, [nowhere], 10)


def test_without_a_search_no_batch_is_called_the_largest():
    about = ABOUT | {"projection": "xla", "searched": False}
    found = plan.report(Config(), "v5e:2x2", CHIP, about, [PROGRAM], 10)
    assert found["largest_batch_per_chip"] is None
    assert "asked" in show.text(found)
    assert "largest" not in show.text(found)


def measured(
    capacity: float, tried: list[int], curve: Callable[[int], float]
) -> Callable[[int], Taken | None]:
    def measure(batch: int) -> Taken | None:
        tried.append(batch)
        total = curve(batch)
        return Taken(int(total), 100) if total <= capacity else None

    return measure


@pytest.mark.parametrize(
    ("curve", "first", "largest", "tried"),
    [
        (lambda b: 100 + 10 * b, 8, 64, [8, 64]),  # 64 takes 740, 128 would take 1380
        (lambda b: 100 + 100 * b, 64, 8, [64, 32, 16, 8]),
        (lambda b: 100 + 500 * b**0.5, 1, 2, [1, 2]),
        (lambda b: 100 + b**1.5, 8, 64, [8, 256, 128, 64]),  # steeper than the line said
        (lambda b: 2000.0, 4, 0, [4, 2, 1]),
    ],
)
def test_the_largest_batch_takes_few_measurements(curve, first, largest, tried):
    seen: list[int] = []
    assert largest_batch(measured(1000, seen, curve), first, 1000) == largest
    assert seen == tried


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_store_bytes_are_those_of_real_stores(tmp_path, dtype):
    config = Config(
        methods=("trak", "das"),
        controls=(),
        unnamed=UnnamedConfig(attributes=()),
        projection=ProjectionConfig(k=64),
        store=StoreConfig(chunk=8, dtype=dtype),
    )
    for name, widths in {"trak": {"features": 64}, "das": {"features": 64, "errors": 3}}.items():
        store = FeatureStore.create(
            tmp_path / name, {}, index=np.arange(19), widths=widths, chunk=8, dtype=dtype
        )
        for rows in store.chunks:
            store.write(rows, {n: np.ones((len(rows), w)) for n, w in widths.items()})
        store.seal()
    arrays = [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".json"]
    (one,) = feature_sets(config, 19)
    assert store_bytes(config, one) == sum(p.stat().st_size for p in arrays)


def compiled(fn: Callable, *args) -> hlo.Cost:
    text = jax.jit(fn).lower(*args).compile().as_text()
    assert text is not None
    return hlo.cost(text)


def test_collectives_are_found_with_their_bytes():
    mesh = Mesh(np.array(jax.devices()), ("samples",))

    def summed(x):
        return jax.lax.psum(x, "samples")

    def thrice(x):
        return jax.lax.fori_loop(0, 3, lambda _, y: jax.lax.psum(y, "samples") / 8, x)

    split = PartitionSpec("samples")
    x = jnp.zeros((8, 100), jnp.float32)
    for fn, calls in ((summed, 1), (thrice, 3)):
        over = jax.shard_map(fn, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)
        assert compiled(over, x).collectives == {"all-reduce": (calls, calls * 400.0)}
    assert compiled(jnp.sum, x).collectives == {}


def test_a_loops_body_counts_as_often_as_it_runs():
    """7 products of 32 x 64 by 64 x 64; XLA's own count has one."""
    w = jnp.zeros((64, 64))

    def loop(x):
        return jax.lax.scan(lambda y, _: (jnp.sin(y @ w), None), x, None, length=7)[0]

    assert compiled(loop, jnp.zeros((32, 64))).flops == 7 * 2 * 32 * 64 * 64


def test_passes_follow_the_precision():
    text = """HloModule m

ENTRY %main (a: f32[4,8], b: f32[8,2]) -> f32[4,2] {
  %a = f32[4,8]{1,0:T(8,128)} parameter(0)
  %b = f32[8,2]{1,0:T(8,128)S(1)} parameter(1)
  ROOT %dot = f32[4,2]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}, \
operand_precision={highest,highest}
}
"""
    cost = hlo.cost(text)
    assert (cost.flops, cost.passes) == (128, 6 * 128)
    assert cost.bytes == 4 * 32 + 4 * 8, "b lies in the core's own memory"
    assert hlo.cost(text.replace("f32", "bf16")).passes == 128, "bfloat16 has no digits beyond one"


@pytest.mark.parametrize("batch", [8, 2**15])
def test_a_batched_product_written_as_a_dilated_convolution_counts_as_the_product(batch):
    """[batch, 16, 4] by [batch, 4, 16]: 2 * batch * 16 * 4 * 16."""
    text = f"""HloModule m

ENTRY %main (a: f32[{batch},16,4], b: f32[{batch},4,16]) -> f32[{batch},16,16] {{
  %a = f32[{batch},16,4]{{2,1,0}} parameter(0)
  %b = f32[{batch},4,16]{{2,1,0}} parameter(1)
  ROOT %c = f32[{batch},16,16]{{2,1,0}} convolution(%a, %b), \
window={{size={batch} stride={batch - 1} lhs_dilate={batch}}}, dim_labels=0bf_0io->0bf
}}
"""
    assert hlo.cost(text).flops == 2 * batch * 16 * 4 * 16


@pytest.mark.parametrize(
    ("pad", "stride", "hole", "apart"), [(0, 2, 1, 1), (3, 3, 2, 1), (2, 4, 6, 3)]
)
def test_a_convolution_counts_where_its_window_meets_the_input(pad, stride, hole, apart):
    """Products of ones summed over the whole output are the pairs that meet."""
    one, window = jnp.ones((1, 1, 13)), jnp.ones((1, 1, 5))
    found = jax.lax.conv_general_dilated(
        one, window, [stride], [(pad, pad)], lhs_dilation=[hole], rhs_dilation=[apart]
    )
    text = f"""HloModule m

ENTRY %main (a: f32[1,1,13], b: f32[1,1,5]) -> f32[1,1,{found.shape[-1]}] {{
  %a = f32[1,1,13]{{2,1,0}} parameter(0)
  %b = f32[1,1,5]{{2,1,0}} parameter(1)
  ROOT %c = f32[1,1,{found.shape[-1]}]{{2,1,0}} convolution(%a, %b), window={{size=5 \
stride={stride} pad={pad}_{pad} lhs_dilate={hole} rhs_dilate={apart}}}, dim_labels=bf0_oi0->bf0
}}
"""
    assert hlo.cost(text).flops == 2 * float(found.sum())


def test_attention_that_the_compiler_made_a_kernel_of_counts_as_its_product():
    """[2, 8, 16] scores by [2, 16, 4] values: 2 * 2 * 8 * 16 * 4."""
    text = """HloModule m

ENTRY %main (a: f32[2,8,16], b: f32[2,16,4]) -> f32[2,8,4] {
  %a = f32[2,8,16]{2,1,0} parameter(0)
  %b = f32[2,16,4]{2,1,0} parameter(1)
  ROOT %s = f32[2,8,4]{2,1,0} custom-call(%a, %b), custom_call_target="tpu_custom_call", \
metadata={op_name="NAME"}
}
"""
    found, other = (hlo.cost(text.replace("NAME", name)) for name in ("online-softmax", "ours"))
    assert (found.flops, found.kernels) == (2 * 2 * 8 * 16 * 4, 0)
    assert (other.flops, other.kernels) == (0, 1)


def test_the_inversions_flops_are_those_of_its_network():
    """Within 10% of 45 evaluations, up to the last recorded of 50 steps."""
    schedule, shape, condition = schedules.linear(), (16, 16, 3), 4
    network = DiT(**SIZES["tiny"]._asdict())
    params = jax.eval_shape(lambda: create(network, shape, condition, 0))
    eps_fn = eps_fn_of(network, schedule, "eps")

    def inversions(params, x0, cond):
        return jax.vmap(lambda x, c: invert(eps_fn, params, schedule, grid(), x, c))(x0, cond)

    def described(*dims):
        return jax.ShapeDtypeStruct(dims, jnp.float32)

    cost = compiled(inversions, params, described(8, *shape), described(8, condition))
    assert cost.flops / 8 == pytest.approx(45 * forward_flops("tiny", 16, 3, 4), rel=0.1)


def complaint(capsys, *argv: str) -> str:
    assert cli.main(["plan", "configs/synthetic.yaml", *argv]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("name", ["v9z:2x2", "nonsense", "v5e:", "v5e", "v5e:2x2x2x2", "v5e:2x2\n"])
def test_an_unknown_topology_is_one_line(capsys, name):
    assert "v5e:16x16" in complaint(capsys, "--topology", name)


def test_missing_libtpu_is_one_line(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)
    monkeypatch.setattr(chips.sys, "prefix", str(tmp_path))
    monkeypatch.setattr(chips.importlib.util, "find_spec", lambda name: None)
    assert "ctrak-jax[tpu-plan]" in complaint(capsys, "--topology", "v5e:2x2")


def test_libtpu_is_taken_from_where_it_is_named(monkeypatch, tmp_path):
    (tmp_path / "lib.so").touch()
    monkeypatch.setenv("TPU_LIBRARY_PATH", str(tmp_path / "lib.so"))
    assert chips.library() == tmp_path / "lib.so"


@pytest.mark.parametrize(
    "wrong", [("--samples", "0"), ("--samples", "1.5"), ("--samples", "nan"), ("--batch", "0")]
)
def test_numbers_out_of_range_are_one_line(capsys, wrong):
    assert wrong[0] in complaint(capsys, "--topology", "v5e:2x2", *wrong)


@pytest.mark.slow
@needs_libtpu
def test_a_real_plan(tmp_path: Path):
    """FLOPs within 10% of three timesteps, forward and twice that backward; no collectives."""
    config = tmp_path / "config.yaml"
    config.write_text("data: {size: 40}\nmethods: [trak]\nprojection: {k: 1024}\n")
    done = ctrak("plan", config, "--topology", "v5e:2x2", "--batch", "8", "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    row = found["programs"][0]
    assert (found["chips"], found["devices"], row["batch_per_chip"]) == (4, 4, 8)
    assert row["collectives"] == {}
    network = row["flops_per_sample"] - row["projection_flops_per_sample"]
    assert network == pytest.approx(3 * 3 * forward_flops("tiny", 16, 3, 4), rel=0.1)
    assert row["projection_flops_per_sample"] == 2 * found["parameters"] * 1024
    assert found["parameters"] == 334_784
    assert found["largest_batch_per_chip"] > 8
    assert found["programs"][1]["memory"]["total"] < 16 * GIB
    assert found["compiled"][-1]["batch_per_chip"] >= found["largest_batch_per_chip"]

    wrong = ctrak("plan", config, "--topology", "v5e:3x7")
    assert wrong.returncode == 2
    assert wrong.stderr.splitlines()[-1].startswith("ctrak: --topology v5e:3x7: ")


@pytest.mark.slow
@needs_libtpu
def test_a_plan_counts_the_passes_of_a_precision(tmp_path: Path):
    """Six for every product under highest, and three in the projection's kernel; under default
    three, and six in the mathematics, which is little of the work."""
    config = tmp_path / "config.yaml"
    config.write_text(
        "data: {size: 40}\nmethods: [concept-trak]\nprojection: {k: 1024}\ncontrols: []\n"
        "trajectory: {path: inversion, condition: own}\nunnamed: {attributes: []}\n"
    )
    ratio = {}
    for precision in ("default", "highest"):
        asked = ("--topology", "v5e:2x2", "--batch", "4", "--only", "--json")
        done = ctrak("plan", config, *asked, "--run.precision", precision)
        assert done.returncode == 0, done.stderr[-3000:]
        found = json.loads(done.stdout)
        (row,), projection = found["programs"], 2 * found["parameters"] * 1024
        passes = row["passes_per_sample"] - 3 * projection
        ratio[precision] = passes / (row["flops_per_sample"] - projection)
        assert found["precision"]["setting"] == precision
    assert ratio["highest"] == pytest.approx(6.0)
    assert 3.0 < ratio["default"] < 3.3
