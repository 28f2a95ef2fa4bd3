"""The benches of ``ctrak bench`` by name, and the machine that they ran on."""

import os
from collections.abc import Callable
from typing import Any

import jax

from ctrak_jax.bench import scaling, work
from ctrak_jax.bench.timing import Row, matmul_peak, with_share
from ctrak_jax.bench.work import Sizes

BENCHES: dict[str, Callable[[Sizes], list[Row]]] = {
    "featurize": work.featurize,
    "projection": work.projection,
    "scaling": scaling.scaling,
    "scoring": work.scoring,
    "solve": work.solve,
}
UNITS = {"scoring": "rows", "solve": "queries"}
"""What a call handles, where it is not samples."""


def run(what: str, sizes: Sizes) -> dict[str, Any]:
    """One benchmark with the machine's description, as JSON has it.

    The machine's matmul peak is measured before and after, and the larger one taken.
    """
    device = jax.local_devices(backend="cpu" if what == "scaling" else None)[0]
    before = matmul_peak(device)
    rows = BENCHES[what](sizes)
    peak = max(before, matmul_peak(device))
    return {
        "benchmark": what,
        "device": f"{jax.local_device_count(device.platform)} x {device.device_kind}",
        "cores": len(os.sched_getaffinity(0)),
        "jax": jax.__version__,
        "matmul_peak_gflops_per_second": peak,
        "batch": sizes.batch,
        "k": sizes.k,
        "repeats": sizes.repeats,
        "unit": UNITS.get(what, "samples"),
        "rows": [with_share(row, peak)._asdict() for row in rows],
    }
