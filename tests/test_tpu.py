"""The TPU kernel compiled for real TPUs, without one (make tpu puts their compiler in place)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tpu_compile

LIBRARY = Path(sys.prefix) / "tpu" / "libtpu" / "libtpu.so"


@pytest.mark.skipif(not LIBRARY.exists(), reason="needs libtpu: run `make tpu`")
def test_the_kernel_compiles_for_every_generation_in_next_to_no_memory():
    """Bound: 64 MiB of temporaries at d = 44 million, k = 32,768, batch 8."""
    environment = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "TPU_SKIP_MDS_QUERY": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.tpu_compile"],
        capture_output=True,
        text=True,
        env=os.environ | environment | {"TPU_LIBRARY_PATH": str(LIBRARY)},
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(rows) == len(tpu_compile.TOPOLOGIES) * len(tpu_compile.SIZES) * 2
    assert max(row["temporaries"] for row in rows) < 64 * 2**20
