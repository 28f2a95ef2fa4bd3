"""What a compiled program takes on a chip, and what bounds its speed: equation (A.1)."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ctrak_jax.config import Config
from ctrak_jax.config.trajectory import ProjectionConfig
from ctrak_jax.errors import UsageError
from ctrak_jax.methods import needs_errors
from ctrak_jax.plan.chips import Chip
from ctrak_jax.projection.reference import NONZEROS
from ctrak_jax.run.variants import FeatureSet

CHIP_COUNTS = (1, 8, 64, 256)
KERNEL_PASSES = 3
"""bfloat16 passes of the projection kernel: float32 gradients in three parts, signs are exact."""
LARGEST = 2**16


class Taken(NamedTuple):
    """Bytes a program takes, and those among them that do not grow with its batch."""

    total: int
    fixed: int


def largest_batch(
    measure: Callable[[int], Taken | None], first: int, capacity: int, most: int = LARGEST
) -> int:
    """The largest first * 2^n that fits, in few measurements: a line through the last two tells
    what to try next (at first, through what does not grow), and what it says is tried.

    Args:
        measure: what a batch takes, or None where it does not fit.
        first: where to begin; halved until it fits.
        capacity: bytes there are.
        most: no batch beyond this is tried.

    Returns:
        0 where a single sample does not fit.
    """
    taken = measure(first)
    if taken is None:
        return 0 if first == 1 else largest_batch(measure, first // 2, capacity, first // 2)
    batch, ceiling = first, most
    start = (0, taken.fixed)
    while True:
        slope = max((taken.total - start[1]) / (batch - start[0]), 1.0)
        guess = batch
        while guess * 2 <= ceiling and taken.total + slope * (guess * 2 - batch) <= capacity:
            guess *= 2
        if start[0] == 0 and guess == batch < ceiling:
            guess *= 2  # one measurement is no line
        if guess == batch:
            return batch
        more = measure(guess)
        if more is None:
            ceiling = guess // 2
        else:
            start, batch, taken = (batch, taken.total), guess, more


def projection_flops(projection: ProjectionConfig, size: int) -> float:
    """FLOPs of projecting one gradient of ``size`` parameters: 2 d k by a dense matrix, a product
    and a sum per entry by a sparse one, a Hadamard transform of its blocks by ``srht``. ``mask``
    only chooses, and of ``factored`` there is no gradient: what it takes goes by layers."""
    match projection.kind:
        case "rademacher" | "gaussian":
            return 2.0 * size * projection.k
        case "sjlt":
            return 2.0 * size * NONZEROS
        case "srht":
            return 2.0 * size * math.log2(projection.k)
        case _:
            return 0.0


def roofline(chip: Chip, *, passes: float, traffic: float, batch: int) -> tuple[float, str]:
    """Seconds per sample of equation (A.1), and which of the two it is, for one chip's call.

    Args:
        passes: bfloat16 FLOPs of the call.
        traffic: its bytes.
        batch: its samples.
    """
    compute, memory = passes / chip.flops, traffic / chip.bandwidth
    return max(compute, memory) / batch, "matrix unit" if compute >= memory else "memory"


def dearest(sets: Iterable[FeatureSet], config: Config) -> FeatureSet:
    """The one whose samples take the most passes; the first of several.

    Raises:
        UsageError: there is none.
    """
    found = max(sets, key=lambda one: one.passes(config), default=None)
    if found is None:
        raise UsageError(f"methods={list(config.methods)}: none of them featurizes anything.")
    return found


def store_bytes(config: Config, one: FeatureSet) -> int:
    """Bytes of the arrays of a set's feature stores: rows in whole chunks, a scale for each kept as
    int8, an int64 index, 4 bytes of checksum a chunk."""
    chunk, dtype, specs = config.store.chunk, config.store.dtype, one.specs(config)
    chunks = -(-one.samples // chunk)

    def array(width: int, size: int = 4) -> int:
        return chunks * (size * width * chunk + 4)

    size = {"float32": 4, "bfloat16": 2, "int8": 1}[dtype]
    scales = array(1) if dtype == "int8" else 0
    features = len(specs) * (array(config.projection.k, size) + scales + 8 * one.samples + 4)
    return features + len(needs_errors(specs)) * array(config.timesteps)
