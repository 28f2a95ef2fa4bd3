"""``ctrak bench accelerator``: its time, what it says of what it left out, and its figures."""

import importlib.util
import json
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax import cli
from ctrak_jax.bench import accelerator
from ctrak_jax.bench.accelerator import counting, networks, numerics, projections, show, worker
from ctrak_jax.bench.accelerator.machine import Rates
from ctrak_jax.bench.accelerator.measuring import LeftOutError, Measurement, apart
from ctrak_jax.bench.accelerator.sizes import FULL, SMALL, TINY
from ctrak_jax.projection import kernels
from tests.paths import ROOT

START = 4.0
"""Seconds until a process measures."""
RESULT = {
    "minutes": 4.0,
    "took_s": 200.0,
    "asked": ["machine", "projection"],
    "device": "chip",
    "devices": 2,
    "cores": 8,
    "versions": {"jax": "0.11.2", "torch": None},
    "rows": [
        {"part": "machine", "name": "copy", "figures": {"gb_per_second": 1234.5}},
        {
            "part": "projection",
            "name": "mask",
            "figures": {"samples_per_second": 12.25, "share_of_roofline": 0.5, "bytes": 3e9},
        },
        {"part": "projection", "name": "sjlt", "left_out": "no time"},
        {"part": "projection", "name": "srht", "failed": "ValueError: x"},
    ],
}


def outcomes(todo: list[Measurement], seconds: float, ticks: list[float]) -> list[dict]:
    """The rows of a worker whose clock shows ``ticks`` one after the other."""
    events: list[dict] = []
    clock = iter(ticks)
    worker.carry_out(todo, seconds, events.append, lambda: next(clock))
    return [event for event in events if event["event"] == "row"]


def test_no_time_leaves_everything_out_and_says_so(capsys, tmp_path):
    assert cli.main(["bench", "accelerator", "--minutes", "0", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "accelerator.json").read_text())
    assert [row["part"] for row in result["rows"]] == list(accelerator.PARTS)
    reasons = {row["part"]: row["left_out"] for row in result["rows"]}
    assert reasons.pop("pytorch") in ("no time was left", "PyTorch is not installed")
    assert {*reasons.values()} == {"no time was left"}
    for part in reasons:
        assert f"- {part}: everything: no time was left" in printed


def test_a_measurement_that_does_not_fit_is_left_out():
    """Ten seconds: the second is expected to take 6 of the 4 that are left."""
    todo = [
        Measurement("p", "late", 6.0, lambda: {"x": 1}, rank=1),
        Measurement("p", "first", 6.0, lambda: {"x": 2}, rank=0),
        Measurement("p", "short", 3.0, lambda: {"x": 3}, rank=2),
    ]
    first, late, short = outcomes(todo, 10.0, [0, 0, 6, 6, 6, 6, 9, 9])
    assert (first["name"], first["figures"]) == ("first", {"x": 2})
    assert late["left_out"] == "no time: takes about 6 s, 4 s were left"
    assert short["figures"] == {"x": 3}


def test_estimates_grow_with_what_was_seen():
    """The first took three times its second: the next is expected to take six."""
    todo = [Measurement("p", str(i), float(i), dict, rank=i) for i in (1, 2)]
    _, second = outcomes(todo, 8.0, [0, 0, 3, 3, 3])
    assert second["left_out"] == "no time: takes about 6 s, 5 s were left"


def test_on_a_cpu_everything_fits_four_minutes():
    """By the expected costs, each group within its share; the share of those before is spent."""
    left = 240.0 - accelerator.END[1]
    shares = [share for _, share in accelerator.GROUPS]
    for i, (parts, _) in enumerate(accelerator.GROUPS):
        mine = accelerator.share_of(left, shares[i:])
        found = [m for part in parts for m in worker.measurements(part, SMALL, None)]
        if parts == ("devices",):
            found = found[:1]  # a CPU is split in two there, in eight here
        needed = START + sum(m.seconds for m in found)
        assert found
        assert needed <= mine, f"{parts}: {needed:.0f} s of {mine:.0f} s"
        left -= needed
    assert {part for parts, _ in accelerator.GROUPS for part in parts} == {*accelerator.PARTS}
    if importlib.util.find_spec("torch") is None:
        costs = SMALL.costs  # of the peers' list, which needs PyTorch to be made
        peers = 2 * START + 4 * len(SMALL.batches) * costs.torch_projection
        peers += (1 + len(SMALL.batches_dit)) * costs.torch_dit
        assert peers + (1 + len(SMALL.batches_unet)) * costs.torch_unet <= left + START


def kind_of(one: Measurement) -> str:
    """What a measurement is, its size and its variation left out."""
    name = one.name
    if one.part == "numerics" and "d =" in name:
        return "kernel" if "pallas" in name else "projection"
    return " ".join(word for word in ("DiT", "dit", "UNet", "unet", "float64") if word in name)


@pytest.mark.parametrize("part", ["numerics", "features"])
@pytest.mark.parametrize("sizes", [SMALL, FULL])
def test_one_of_every_kind_comes_before_the_second_of_any(part, sizes):
    """A later one may be of a kind whose first one cost nothing."""
    todo = sorted(worker.measurements(part, sizes, None), key=lambda m: m.rank)
    kinds = [kind_of(one) for one in todo]
    first = len(set(kinds))
    assert len(set(kinds[:first])) == first


def test_failures_and_reasons_are_rows():
    def fails():
        raise ValueError("broken")

    def has_no_use():
        raise LeftOutError("one device")

    todo = [Measurement("p", fn.__name__, 0.1, fn) for fn in (fails, has_no_use)]
    todo.append(Measurement("p", "nan", 0.1, lambda: {"x": float("nan")}))
    failed, left, nan = outcomes(todo, 9.0, [0.0] * 20)
    assert failed["failed"] == "ValueError: broken"
    assert left["left_out"] == "one device"
    assert nan["figures"] == {"x": None}


def answering(monkeypatch, events: list[dict], then: str) -> None:
    """A worker that says some events and then does what the code says."""
    popen = subprocess.Popen
    code = "import sys, time; sys.stdin.readline()\n"
    code += "".join(f"print({json.dumps(event)!r}, flush=True)\n" for event in events)

    def start(command, **other):
        return popen([sys.executable, "-c", code + then], **other)

    monkeypatch.setattr(subprocess, "Popen", start)


A, B = ({"part": "machine", "name": name} for name in "ab")
BEGUN = [{"event": "todo", "items": [A, B]}, {"event": "begin", **A}]


def test_a_worker_that_does_not_return_is_ended(monkeypatch):
    answering(monkeypatch, [{"event": "about", "device": "chip"}, *BEGUN], "time.sleep(60)")
    begin = time.monotonic()
    result = accelerator.run(0.08, ["machine"], quiet=True)
    assert time.monotonic() - begin < 10
    late, unbegun = result["rows"]
    assert late == {**A, "left_out": "no time: ended while it was being measured"}
    assert unbegun == {**B, "left_out": "no time"}
    assert result["device"] == "chip"


def test_a_worker_that_dies_is_a_failure(monkeypatch):
    answering(monkeypatch, BEGUN, "sys.exit('out of luck')")
    failed, unbegun = accelerator.run(1.0, ["machine"], quiet=True)["rows"]
    assert failed["failed"] == "its process ended with status 1: out of luck"
    assert unbegun == {**B, "left_out": "its process had ended"}


@pytest.mark.slow
def test_it_begins_where_only_jax_is_installed():
    """Libraries for configs, data and display are missing; so is flax, which needs rich."""
    code = (
        "import sys, json\n"
        "for name in ('pydantic', 'grain', 'rich', 'matplotlib', 'yaml', 'PIL', 'flax', 'scipy'):\n"
        "    sys.modules[name] = None\n"
        "from ctrak_jax.bench.accelerator import worker\n"
        "worker.main()\n"
    )
    asked = {"parts": ["machine", "numerics"], "seconds": 25, "rates": None, "size": "tiny"}
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(asked) + "\n", capture_output=True, text=True
    )
    assert not done.returncode, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    found = {row["name"]: row for row in rows if row["event"] == "row"}
    assert found["matmul highest"]["figures"]["tflops_per_second"] > 0
    assert found["rademacher, xla, d = 200"]["figures"]["relative_error"] < 1e-5
    assert "not installed" in found["least DiT, dps, float32 highest beside float64"]["left_out"]


def test_the_command_line_needs_no_more():
    code = (
        "import sys\n"
        "for name in ('pydantic', 'grain', 'rich', 'matplotlib', 'yaml', 'PIL', 'flax', 'jax'):\n"
        "    sys.modules[name] = None\n"
        "sys.argv = ['bench', '--minutes', '0']\n"
        "import runpy\n"
        "runpy.run_module('ctrak_jax.bench.accelerator', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert "no time was left" in done.stdout


def test_tables_show_what_is_known_and_name_the_rest(tmp_path):
    text = show.markdown(RESULT)
    assert "2 x chip, 8 CPU cores. jax 0.11.2. Took 200 s of 240 s." in text
    assert "|  | GB/s |\n| --- | --- |\n| copy | 1,234 |" in text
    assert "|  | samples/s | of roofline | GB |" in text
    assert "| mask | 12.2 | 50.0% | 3 |" in text
    assert "## Failed\n\n- projection: srht: ValueError: x" in text
    assert "## Left out\n\n- projection: sjlt: no time" in text
    files = show.write(RESULT, tmp_path)
    assert [file.suffix for file in files] == [".json", ".md", ".png"]
    assert files[2].read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_there_is_no_chart(tmp_path, monkeypatch):
    for name in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    assert [file.suffix for file in show.write(RESULT, tmp_path)] == [".json", ".md"]


@pytest.mark.parametrize("kind", numerics.KINDS)
def test_projections_are_those_of_the_matrix(kind):
    found = numerics.projected(TINY, kind, "xla")
    assert found["relative_error"] < 1e-5
    assert found["same_bits_twice"]


def test_a_roofline_is_the_slowest_of_three():
    """d = 1000, k = 64, 2 samples: 4 * 2 * 1064 bytes; 64,000 signs of 3 operations and a word of 9
    for 32 of them; three products of 2 * 2 * 1000 * 64."""
    least = projections.roofline("rademacher", 1000, 64, 2)
    assert least == (8512.0, 64_000 * (9 / 32 + 3), 3 * 256_000.0)
    seconds = least.seconds(Rates(flops=1e6, bytes=1e3, integers=1e5))
    assert max(seconds, key=lambda name: seconds[name]) == "memory"
    assert seconds["memory"] == pytest.approx(8.512)


@pytest.mark.parametrize(("capability", "kernel"), [("9.0", True), ("8.0", False)])
def test_a_gpu_is_measured_in_the_forms_that_it_has(monkeypatch, capability, kernel):
    """An H100 and an A100: the kernel, plain JAX with its default tile, both tiles of srht."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(kernels, "compute_capability", lambda: capability)
    first = f"d = {FULL.d[0]:,}, batch {FULL.batches[0]}"
    names = {found.name for found in projections.measurements(FULL, None)}
    assert {
        f"rademacher, xla, {first}, tile 8,192",
        f"srht, xla, {first}",
        f"srht, xla, {first}, tile 1,048,576",
        f"sjlt, xla, {first}",
    } <= names
    assert (f"rademacher, pallas_gpu, {first}" in names) is kernel
    compared = {found.name for found in numerics.measurements(FULL)}
    assert any("rademacher, pallas_gpu" in name for name in compared) is kernel


def test_speed_is_beside_the_rates():
    asked = projections.Projection(32, "rademacher", implementation="xla")
    rates = Rates(flops=1e12, bytes=1e12, integers=1e12)
    found = projections.speed(TINY, rates, 300, 2, asked)
    seconds = found["seconds"]
    assert found["samples_per_second"] == pytest.approx(2 / seconds)
    assert found["share_of_matmul_peak"] == pytest.approx(2 * 2 * 300 * 32 / seconds / 1e12)


def test_traced_products_are_counted_as_often_as_they_run():
    w, kernel = jnp.zeros((32, 16)), jnp.zeros((3, 3, 4, 8))

    def fn(x, image):
        y = jax.lax.scan(lambda c, _: (c + (x @ w).sum(), None), 0.0, None, length=5)[0]
        dims = ("NHWC", "HWIO", "NHWC")
        return (
            y
            + jax.lax.conv_general_dilated(
                image, kernel, (1, 1), "SAME", dimension_numbers=dims
            ).sum()
        )

    jaxpr = jax.make_jaxpr(fn)(jnp.zeros((7, 32)), jnp.zeros((2, 6, 6, 4)))
    products, convolution = 5 * 2 * 7 * 32 * 16, 2 * (2 * 6 * 6 * 8) * 3 * 3 * 4
    assert counting.matrix_flops(jaxpr) == products + convolution


def test_rows_are_compared_by_the_worst():
    truth = np.array([[3.0, 4.0], [0.0, 2.0]])
    found = apart(truth + np.array([[0.0, 0.0], [0.0, 0.5]]), truth)
    assert found["relative_error"] == pytest.approx(0.25)
    assert found["one_minus_cosine"] == pytest.approx(0.0)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["dps", "slider"])
def test_gradients_are_those_of_the_definitions_in_float64(loss):
    found = numerics.beside_float64(TINY, loss)
    assert found["relative_error"] < 1e-4


def test_the_unet_is_that_of_the_config():
    file = ROOT / "configs" / "sd14" / "unet" / "config.json"
    config = {k: v for k, v in json.loads(file.read_text()).items() if not k.startswith("_")}
    assert config == networks.SD14
    assert (FULL.k, FULL.steps, FULL.every) == (32_768, 50, 5)


def test_time_must_not_be_negative(capsys):
    assert cli.main(["bench", "accelerator", "--minutes", "-1"]) == 2
    assert "--minutes -1 must be at least 0" in capsys.readouterr().err
