"""The TPU programs compiled for real TPUs, without one (make tpu puts their compiler in place)."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import tpu_compile

pytestmark = pytest.mark.slow
LIBRARY = Path(sys.prefix) / "tpu" / "libtpu" / "libtpu.so"


@pytest.fixture(scope="module")
def compiled() -> list[dict[str, Any]]:
    """What every program needs, as tests.tpu_compile reports it."""
    if not LIBRARY.exists():
        pytest.skip("needs libtpu: run `make tpu`")
    environment = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "TPU_SKIP_MDS_QUERY": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.tpu_compile"],
        capture_output=True,
        text=True,
        env=os.environ | environment | {"TPU_LIBRARY_PATH": str(LIBRARY)},
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_the_kernel_compiles_for_every_generation_in_next_to_no_memory(compiled):
    """Bound: 64 MiB of temporaries at d = 44 million, k = 32,768, batch 8."""
    rows = [row for row in compiled if "dtype" in row]
    assert len(rows) == len(tpu_compile.TOPOLOGIES) * len(tpu_compile.SIZES) * 2
    assert max(row["temporaries"] for row in rows) < 64 * 2**20


def test_a_step_of_conjugate_gradients_at_k_32768_fits_a_chip_of_16_gb(compiled):
    """100,000 features over 16 chips of v5e, 32 queries at 7 dampings: 0.82 GB of features a chip,
    and every program with them, its arguments, results and temporaries together below 1.1 GB."""
    n, k, chips = tpu_compile.CG["n"], tpu_compile.CG["k"], 16
    features = n // chips * k * 4
    held = {row["cg"]: row["held"] for row in compiled if "cg" in row}
    assert set(held) == {"add", "flush", "advance"}
    assert features < held["add"]
    # The features stay on the chip, and so do z and r, while the other programs run.
    assert held["add"] + held["flush"] + held["advance"] < 1.1e9 < 16e9
