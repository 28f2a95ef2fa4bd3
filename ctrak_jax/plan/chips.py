"""TPU chips and where their compiler is."""

import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

from ctrak_jax.errors import UsageError, pip_install

GB, GIB, TERA = 1e9, 2**30, 1e12
EXAMPLES = "v4:2x2x1, v5e:16x16, v5p:4x4x4, v6e:2x2, tpu7x:2x2x1"


class Chip(NamedTuple):
    """Bytes of memory, their bandwidth in bytes per second, bfloat16 FLOPs per second, and the page
    that says so."""

    hbm: int
    bandwidth: float
    flops: float
    source: str


_PAGES = "https://docs.cloud.google.com/tpu/docs/"
CHIPS = {
    "v4": Chip(32 * GIB, 1200 * GB, 275 * TERA, _PAGES + "v4"),
    "v5e": Chip(16 * GIB, 819 * GB, 197 * TERA, _PAGES + "v5e"),
    "v5p": Chip(95 * GIB, 2765 * GB, 459 * TERA, _PAGES + "v5p"),
    "v6e": Chip(32 * GIB, 1638 * GB, 918 * TERA, _PAGES + "v6e"),
    "tpu7x": Chip(192 * GIB, 7380 * GB, 2307 * TERA, _PAGES + "tpu7x"),
}
"""Generation, as topologies name it -> chip. The pages write GB for memory; it is GiB."""


def chip_of(topology: str) -> Chip:
    """The chip of a topology, or UsageError where it is the name of none."""
    if not re.fullmatch(rf"({'|'.join(CHIPS)}):\d+(x\d+){{1,2}}", topology):
        raise UsageError(
            f"--topology {topology!r} is not known; give a generation ({', '.join(CHIPS)}) and the "
            f"chips along each axis, e.g. {EXAMPLES}."
        )
    return CHIPS[topology.partition(":")[0]]


def library() -> Path:
    """libtpu, the TPU's compiler: named by TPU_LIBRARY_PATH, in ``.venv/tpu``, or installed."""
    named = os.environ.get("TPU_LIBRARY_PATH")
    spec = importlib.util.find_spec("libtpu")
    places = [Path(named)] if named else [Path(sys.prefix) / "tpu" / "libtpu" / "libtpu.so"]
    if not named and spec is not None and spec.origin is not None:
        places.append(Path(spec.origin).with_name("libtpu.so"))
    for place in places:
        if place.is_file():
            return place
    raise UsageError(
        f"libtpu is not at {places[0]} and not installed; run "
        f"{pip_install('ctrak-jax[tpu-plan]')}, or make tpu in a checkout."
    )
