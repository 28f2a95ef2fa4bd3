"""Against the same work in PyTorch, dattri and traker, in one process, in turns (extra ``bench``).

    python -m benchmarks.peers [--batch 32] [--k 4096] [--repeats 5] [--only inversion]

The `tiny` network with the same random weights, images, conditions, guided inversion, nine
timesteps and k on both sides. The rows of gradients alone take all devices JAX has (on a CPU as
many as XLA_FLAGS forces), those that project one. Both sides' gradients are compared before they
are timed, and so are the projectors' inner products with those of the gradients.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from dattri.func.projection import random_project
from rich.console import Console
from rich.table import Table
from trak.projectors import BasicProjector, ProjectionType

import ctrak_jax as ct
from ctrak_jax import devices
from ctrak_jax.bench.accelerator import torch_peer
from ctrak_jax.gradient import flatten_samples, parameter_paths, project_layers
from ctrak_jax.models import SIZES, DiT, create
from ctrak_jax.models.denoiser import layers_fn_of
from ctrak_jax.typing import Array, Params

GUIDANCE = 7.5
PAUSE = 0.5
"""Seconds between two turns."""
SIZE = SIZES["tiny"]


def in_turns(
    mine: Callable[[], Any], peer: Callable[[], Any], repeats: int
) -> tuple[list[float], list[float]]:
    """Seconds of both, in turns so that both meet the same machine, each call right after one of
    its own side, as in the middle of a featurization. PyTorch's threads keep spinning for some
    0.2 s after a call: a turn waits for them.
    """
    mine(), peer()
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for fn, seconds in zip((mine, peer), taken, strict=True):
            time.sleep(PAUSE)
            fn()
            start = time.perf_counter()
            fn()
            seconds.append(time.perf_counter() - start)
    return taken


def random_parameters() -> Params:
    """Weights of a network that does something: no zero gates."""
    zero = create(DiT(**SIZE._asdict()), (16, 16, 3), 4, 0)
    leaves, tree = jax.tree.flatten(zero)
    rng = np.random.default_rng(0)
    noisy = [leaf + 0.05 * rng.standard_normal(leaf.shape, np.float32) for leaf in leaves]
    return jax.tree.unflatten(tree, noisy)


def refuse_others(name: str, phi: np.ndarray, g: np.ndarray, sides: int = 1) -> None:
    """Stop at a projector whose features of a batch do not have the inner products of its gradients
    up to one factor, which traker's lack, within what k entries can give.

    Args:
        sides: 2 for two matrices a layer of sqrt(k) columns each, whose errors add up where a
            layer's gradient has low rank.
    """
    inner, exact = phi @ phi.T, g @ g.T
    exact *= np.trace(inner) / np.trace(exact)
    size = np.sqrt(np.diag(exact))
    error = np.sqrt(np.mean(((inner - exact) / np.outer(size, size)) ** 2))
    allowed = 3 / np.sqrt(phi.shape[1]) if sides == 1 else np.sqrt(2) / phi.shape[1] ** 0.25
    if not error <= allowed:
        raise SystemExit(
            f"{name}: inner products are off by {error:.1e} of the norms, expected at most "
            f"{allowed:.1e}: nothing is timed."
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--k", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    asked = parser.parse_args()

    rng = np.random.default_rng(1)
    x0 = rng.uniform(-1, 1, (asked.batch, 16, 16, 3)).astype(np.float32)
    cond = np.eye(4, dtype=np.float32)[rng.integers(4, size=asked.batch)]
    against = np.roll(cond, 1, axis=1)
    params, schedule, grid = random_parameters(), ct.schedule.linear(), ct.grid()
    network = DiT(**SIZE._asdict())

    def eps_fn(params: Params, x: Array, t: Array, c: Array) -> Array:
        return network.apply({"params": params}, x, t, c)

    part = ct.select(params)
    shown = layers_fn_of(network, schedule, "eps")

    def layers_fn(params: Params, taps: Any, x: Array, t: Array, c: Array) -> Any:
        return shown(part.merge(params, {}), taps, x, t, c)

    def path_of(params: Params, x0: Array, cond: Array, against: Array) -> ct.Path:
        guidance = ct.Guidance(GUIDANCE, against)
        return ct.invert(eps_fn, params, schedule, grid, x0, cond, guidance=guidance)

    def gradient(params: Params, x0: Array, cond: Array, against: Array) -> Params:
        path, loss = path_of(params, x0, cond, against), ct.reward.dps(schedule, x0)
        return ct.path_gradients(loss, layers_fn, part.params, path, cond, normalise=[True])[0]

    def factored(params: Params, x0: Array, cond: Array, against: Array) -> Array:
        path, loss = path_of(params, x0, cond, against), ct.reward.dps(schedule, x0)
        to = ct.Projection(asked.k, "factored")
        args = loss, layers_fn, part.params, path, cond
        finish = partial(project_layers, projection=to)
        return ct.path_gradients(*args, normalise=[True], finish=finish)[0]

    def in_batch(params: Params, batch: tuple[Array, Array, Array]) -> Array:
        return flatten_samples(jax.vmap(gradient, (None, 0, 0, 0))(params, *batch))

    by_factors = jax.jit(jax.vmap(factored, (None, 0, 0, 0)))

    projection = ct.Projection(asked.k)

    @jax.jit
    def features(params: Params, *batch: Array) -> Array:
        return ct.project(in_batch(params, batch), projection)

    project = jax.jit(lambda g: ct.project(g, projection))
    mine = [jnp.asarray(a) for a in (x0, cond, against)]
    mesh = devices.local_mesh()
    gradients = partial(
        devices.over_samples(in_batch, mesh),
        devices.put_replicated(params, mesh),
        devices.put(tuple(mine), mesh, devices.samples_spec(mesh)),
    )

    peer = torch_peer.Peer(
        torch_peer.dit(SIZE),
        torch.tensor(np.asarray(schedule.signal) ** 2),
        grid.times.tolist(),
        grid.every,
        GUIDANCE,
    )
    paths = parameter_paths(params)
    weights = {
        name: torch.tensor(np.asarray(leaf))
        for name, leaf in zip(paths, jax.tree.leaves(params), strict=True)
    }
    theirs = [torch.tensor(a) for a in (x0, cond, against)]

    g_mine = np.asarray(gradients())
    g_peer = torch_peer.gradients(peer, weights, *theirs)
    others = [g_peer, torch_peer.gradients_of_loss(peer, weights, *theirs)]
    apart = max(np.linalg.norm(g_mine - g.numpy()) / np.linalg.norm(g_mine) for g in others)
    if apart > 1e-2:
        raise SystemExit(f"the two sides' gradients differ by {apart:.1e}: nothing is timed.")

    def dattri(g: torch.Tensor) -> torch.Tensor:
        projector = random_project(
            g, asked.batch, proj_dim=asked.k, proj_max_batch_size=8, proj_seed=0, device="cpu",
            proj_type="rademacher",
        )  # fmt: skip
        return projector(g)

    basic = BasicProjector(
        g_peer.shape[1], asked.k, 0, ProjectionType.rademacher, torch.device("cpu")
    )

    def traker(g: torch.Tensor) -> torch.Tensor:
        return basic.project(g, model_id=0)

    g = jnp.asarray(g_mine)
    pairs = {
        "guided inversion + dps gradients; grad of the loss": (
            lambda: gradients().block_until_ready(),
            lambda: torch_peer.gradients_of_loss(peer, weights, *theirs),
        ),
        "guided inversion + dps gradients; by hand": (
            lambda: gradients().block_until_ready(),
            lambda: torch_peer.gradients(peer, weights, *theirs),
        ),
        "rademacher projection; dattri": (
            lambda: project(g).block_until_ready(),
            lambda: dattri(g_peer),
        ),
        "rademacher projection; traker": (
            lambda: project(g).block_until_ready(),
            lambda: traker(g_peer),
        ),
        "both; grad of the loss; dattri": (
            lambda: features(params, *mine).block_until_ready(),
            lambda: dattri(torch_peer.gradients_of_loss(peer, weights, *theirs)),
        ),
        "both; by hand; dattri": (
            lambda: features(params, *mine).block_until_ready(),
            lambda: dattri(torch_peer.gradients(peer, weights, *theirs)),
        ),
        "both, ours factored; by hand; dattri": (
            lambda: by_factors(params, *mine).block_until_ready(),
            lambda: dattri(torch_peer.gradients(peer, weights, *theirs)),
        ),
    }
    names = list(pairs)
    pairs = {name: pair for name, pair in pairs.items() if asked.only in name}
    if not pairs:
        parser.error(f"--only {asked.only!r}: no such row; the rows are {', '.join(names)}.")
    timed = [
        (name, projector)
        for name, projector in (("dattri", dattri), ("traker", traker))
        if any(name in row for row in pairs)
    ]
    for name, projector in timed:
        refuse_others(name, np.asarray(projector(g_peer)), g_mine)
    if timed:
        refuse_others("ctrak_jax", np.asarray(project(g)), g_mine)
        refuse_others("factored", np.asarray(by_factors(params, *mine)), g_mine, sides=2)
    title = (
        f"batch {asked.batch}, d = {g_mine.shape[1]:,}, k = {asked.k:,}, gradients alone on "
        f"{mesh.size} device(s), {torch.get_num_threads()} threads; gradients apart by "
        f"{apart:.0e}; samples per second, median [slowest, fastest]"
    )
    table = Table("work", "ctrak_jax", "peer", "ratio", title=title)
    for name, (ours, other) in pairs.items():
        taken = in_turns(ours, other, asked.repeats)
        median = [statistics.median(seconds) for seconds in taken]
        rates = [
            f"{asked.batch / m:.2f} [{asked.batch / max(s):.2f}, {asked.batch / min(s):.2f}]"
            for m, s in zip(median, taken, strict=True)
        ]
        table.add_row(name, *rates, f"{median[1] / median[0]:.1f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
