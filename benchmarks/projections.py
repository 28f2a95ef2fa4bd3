"""Every kind of projection: its error on pairs that are unrelated and that are not.

    python -m benchmarks.projections [--batch 32] [--k 4096] [--seeds 20]

Printed is a Markdown table; `ctrak bench projection` has the times. The error is the root mean
square of <phi, phi'> - <g, g'> over pairs of unit vectors and seeds, in units of 1 / sqrt(k): for
``gaussian`` the theory gives sqrt(1 + cos^2). The coordinates of a vector are normal, or (heavy)
normal times a scale that is log-normal from coordinate to coordinate and the same for all vectors,
as the parameters of a network differ in size. The vectors of a pair are independent, or share half
of their variance.
``factored`` takes them as gradients of the `tiny` network, leaf by leaf; so long are all of them.
"""

import argparse
from functools import partial
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from ctrak_jax.models import SIZES, DiT, create
from ctrak_jax.projection import Projection, implementation_of, project, project_leaves
from ctrak_jax.projection.api import Kind
from ctrak_jax.typing import Array

COSTS: dict[Kind, str] = {
    "rademacher": "d k",
    "gaussian": "d k",
    "sjlt": "4 d",
    "srht": "d log k",
    "mask": "k",
    "factored": "by layer",
}
SPREAD = 2.0
"""Standard deviation of the logarithm of a coordinate's scale."""


LEAVES = jax.tree.leaves(
    jax.eval_shape(lambda: create(DiT(**SIZES["tiny"]._asdict()), (16, 16, 3), 4, 0))
)
"""The parameters of the `tiny` network, which the vectors are as long as."""


class Pairs(NamedTuple):
    """Unit vectors g [vector, d]; a pair is one of the first half and its like of the second."""

    name: str
    g: np.ndarray


def pairs(batch: int, d: int) -> list[Pairs]:
    """Two distributions of coordinates, unrelated and correlated pairs of each."""
    rng = np.random.default_rng(0)
    scale = np.exp(SPREAD * rng.standard_normal(d))
    half = batch // 2
    found = []
    for shape, factor in (("normal", np.ones(d)), ("heavy", scale)):
        for relation, shared in (("unrelated", 0.0), ("cos 1/2", 0.5)):
            common = np.tile(rng.standard_normal((half, d)), (2, 1))
            own = rng.standard_normal((2 * half, d))
            g = factor * (np.sqrt(shared) * common + np.sqrt(1 - shared) * own)
            g /= np.linalg.norm(g, axis=1, keepdims=True)
            found.append(Pairs(f"{shape}, {relation}", g.astype(np.float32)))
    return found


def projected(g: Array, projection: Projection) -> Array:
    """The vectors, as one matrix or (``factored``) leaf by leaf."""
    if projection.kind != "factored":
        return project(g, projection)
    ends = np.cumsum([leaf.size for leaf in LEAVES])[:-1]
    parts = jnp.split(g, ends, axis=1)
    leaves = [p.reshape(len(g), *leaf.shape) for p, leaf in zip(parts, LEAVES, strict=True)]
    return project_leaves(leaves, projection)


def products(vectors: np.ndarray) -> np.ndarray:
    """The inner product of every pair."""
    first, second = np.split(vectors.astype(np.float64), 2)
    return (first * second).sum(1)


def error(kind: Kind, g: np.ndarray, k: int, seeds: int) -> float:
    """Root mean square error of inner products over pairs and seeds, times sqrt(k)."""
    exact = products(g)
    squares = []
    for seed in range(seeds):
        phi = jax.jit(partial(projected, projection=Projection(k, kind, seed)))(g)
        squares.append((products(np.asarray(phi)) - exact) ** 2)
    return float(np.sqrt(k * np.mean(squares)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--k", type=int, default=4096)
    parser.add_argument("--seeds", type=int, default=20)
    asked = parser.parse_args()

    device, d = jax.local_devices()[0], sum(leaf.size for leaf in LEAVES)
    print(
        f"batch {asked.batch}, d = {d}, k = {asked.k}, {asked.seeds} seeds, "
        f"{device.device_kind}, jax {jax.__version__}\n"
    )
    drawn = pairs(asked.batch, d)
    names = ["kind", "implementation", "cost", *(f"error: {p.name}" for p in drawn)]
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for kind in get_args(Kind):
        run = implementation_of(Projection(asked.k, kind))
        errors = [f"{error(kind, p.g, asked.k, asked.seeds):.2f}" for p in drawn]
        print("| " + " | ".join([kind, run, COSTS[kind], *errors]) + " |")


if __name__ == "__main__":
    main()
