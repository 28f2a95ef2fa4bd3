"""Samples projected per second, beside what the machine's rates would allow."""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
from jax import lax

from ctrak_jax.bench.accelerator.machine import MIX, Rates
from ctrak_jax.bench.accelerator.measuring import Measurement, timed
from ctrak_jax.bench.accelerator.numerics import kernel_of
from ctrak_jax.bench.accelerator.sizes import AcceleratorSizes
from ctrak_jax.projection import KINDS, Projection, project, rows_per_step
from ctrak_jax.projection.reference import NONZEROS, ROUNDS, WORD, block_rows

PARTS = 3
"""bfloat16 products that one of float32 gradients with signs takes: the gradients in three
parts."""
PASSES = 6
"""The same of two float32 matrices."""
SIGN = 3
"""Integer operations that make a sign of a word: shift, mask, or."""
NORMAL = 30
"""Operations of the inverse error function."""
DENSE = ("rademacher", "gaussian")


class Roofline(NamedTuple):
    """What one call has to do at the least.

    Attributes:
        bytes: read and written: the gradients once, the features once.
        integers: operations of the hash and of signs (of ``gaussian`` also those of floats).
        flops: of the matrix unit, in bfloat16 products: exact float32 gradients take several.
    """

    bytes: float
    integers: float
    flops: float

    def seconds(self, rates: Rates) -> dict[str, float]:
        """Of each, were it alone."""
        return {
            "memory": self.bytes / rates.bytes,
            "integers": self.integers / rates.integers,
            "matrix unit": self.flops / rates.flops,
        }


def roofline(kind: str, d: int, k: int, samples: int) -> Roofline:
    """Of float32 gradients [samples, d]. ``srht`` adds d log2(B) numbers per sample outside the
    matrix unit; they are counted with the integers."""
    moved, word = 4.0 * samples * (d + k), MIX + 1.0
    if kind == "rademacher":
        return Roofline(moved, d * k * (word / WORD + SIGN), PARTS * 2.0 * samples * d * k)
    if kind == "gaussian":
        return Roofline(moved, d * k * (word + NORMAL), PASSES * 2.0 * samples * d * k)
    if kind == "sjlt":
        return Roofline(moved, d * NONZEROS * (word + ROUNDS * (MIX + 6.0)), 0.0)
    if kind == "srht":
        additions = samples * d * (block_rows(k).bit_length() - 1.0)
        return Roofline(moved, d * (word + SIGN) + additions, 0.0)
    return Roofline(8.0 * samples * k, 0.0, 0.0)


@lru_cache(maxsize=1)
def gradients(samples: int, d: int) -> jax.Array:
    """Random numbers, sample by sample: together they would take several times their memory."""
    keys = jax.random.split(jax.random.key(1), samples)
    return jax.jit(lambda keys: lax.map(lambda key: jax.random.normal(key, (d,)), keys))(keys)


def speed(
    sizes: AcceleratorSizes, rates: Rates | None, d: int, samples: int, asked: Projection
) -> dict[str, Any]:
    """Samples per second of the whole d."""
    cut = sizes.cut if asked.kind in DENSE and asked.implementation == "xla" else 1
    g = gradients(samples, d // cut)
    fn = jax.jit(lambda g: project(g, asked)).lower(g).compile()
    seconds = cut * timed(fn, g, repeats=sizes.repeats)
    least = roofline(asked.kind, d, asked.k, samples)
    found = {"d": d, "k": asked.k, "batch": samples, "samples_per_second": samples / seconds}
    found |= {"rows_timed": d // cut, "seconds": seconds, **least._asdict()}
    if rates is not None:
        bounds = least.seconds(rates)
        slowest = max(bounds, key=lambda name: bounds[name])
        found |= {"bound_by": slowest, "share_of_roofline": bounds[slowest] / seconds}
        if asked.kind in DENSE:
            found["share_of_matmul_peak"] = 2.0 * samples * d * asked.k / seconds / rates.flops
    return found


def measurements(sizes: AcceleratorSizes, rates: Rates | None) -> list[Measurement]:
    """Every kind and implementation; the larger d and the smaller batch first."""
    found = []
    for i, (d, samples) in enumerate((d, b) for d in sizes.d for b in sizes.batches):
        for kind in KINDS:
            default = rows_per_step(Projection(sizes.k, kind), jax.default_backend())
            tiles = sorted({1024, 2**20} if kind == "srht" else {default})
            kernel = kernel_of(kind)
            names = [*(("xla", tile) for tile in tiles), *([(kernel, 1024)] if kernel else [])]
            for implementation, tile in names:
                asked = Projection(sizes.k, kind, 0, tile, implementation)  # pyright: ignore
                name = f"{kind}, {implementation}, d = {d:,}, batch {samples}"
                name += f", tile {tile:,}" if tile != 1024 else ""
                run = partial(speed, sizes, rates, d, samples, asked)
                costly = kind in DENSE
                rank = 1 + 2 * i + (kind == "gaussian")
                seconds = sizes.costs.dense if costly else sizes.costs.sparse
                found.append(Measurement("projection", name, seconds, run, rank))
    return found
