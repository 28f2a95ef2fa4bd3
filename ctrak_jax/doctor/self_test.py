"""The self-test: numbers of this machine beside independent ones, and a store whose writer is
killed."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from ctrak_jax import projection, schedule
from ctrak_jax.doctor import writer
from ctrak_jax.doctor.checks import Check, tried
from ctrak_jax.gradient import sample_gradient
from ctrak_jax.models import DiT, create
from ctrak_jax.models.denoiser import eps_fn_of
from ctrak_jax.projection import reference
from ctrak_jax.reward import dsm
from ctrak_jax.store import FeatureStore
from ctrak_jax.trajectory import forward_path, grid

GROUP = "self-test"
SAMPLES, LENGTH, COLUMNS = 4, 5000, 256
"""Gradients that are projected, their length, and that of the features."""
PROJECTION_BOUND = 1e-5
"""Largest relative error of a projected gradient; sums of float32 have about 1e-6."""
GRADIENT_BOUND = 1e-4
"""Largest error of a directional derivative, relative to the gradient's norm."""
SIDE, CONDITION = 8, 4
STEP = 1e-5
"""Of the finite differences, which are taken in float64."""
PATIENCE = 120.0
"""Seconds until the writing process must have begun."""
OTHER_DISK = "give a folder on another disk: --dir DIR"
OTHER_DEVICE = "compute on the CPU (JAX_PLATFORMS=cpu), and report the devices and versions above"


def checks(place: Path) -> Iterator[Check]:
    """Projection, gradient, store."""
    yield tried(GROUP, "projection", OTHER_DEVICE, projected)
    yield tried(GROUP, "gradient", OTHER_DEVICE, differentiated)
    yield tried(GROUP, "store", OTHER_DISK, lambda: stored(place))


def projected() -> Check:
    """Gradients projected on the device beside the matrix written out in float64."""
    g = np.random.default_rng(0).normal(size=(SAMPLES, LENGTH)).astype(np.float32)
    errors = {}
    for kind in projection.KINDS:
        truth = reference.project(kind, 0, g, COLUMNS)
        how = projection.Projection(COLUMNS, kind)
        found = np.asarray(jax.jit(partial(projection.project, projection=how))(g), np.float64)
        off = np.linalg.norm(found - truth, axis=1) / np.linalg.norm(truth, axis=1)
        errors[kind] = float(off.max())
    worst = max(errors, key=errors.__getitem__)
    said = f"largest relative error {errors[worst]:.1e} ({worst}; at most {PROJECTION_BOUND:g})"
    passed = errors[worst] <= PROJECTION_BOUND
    return Check(
        GROUP,
        "projection",
        "ok" if passed else "failed",
        f"{len(errors)} kinds beside float64: {said}",
        "" if passed else OTHER_DEVICE,
        {"errors": errors, "bound": PROJECTION_BOUND},
    )


def differentiated() -> Check:
    """A sample's gradient through a small transformer on the device beside central differences of
    its loss in float64, along the gradient and along random directions."""
    network, noise = DiT(width=16, depth=1, heads=2, patch=4), schedule.linear()
    shape = (SIDE, SIDE, 3)
    leaves, tree = jax.tree.flatten(create(network, shape, CONDITION, 0))
    rng = np.random.default_rng(1)  # adaLN-zero alone would be a network that is zero
    weights = [np.float32(leaf + 0.1 * rng.normal(size=leaf.shape)) for leaf in leaves]
    params = jax.tree.unflatten(tree, weights)
    x0 = rng.uniform(-1.0, 1.0, shape).astype(np.float32)
    cond = np.eye(CONDITION, dtype=np.float32)[0]
    path = forward_path(noise, jnp.asarray(x0), jnp.asarray(grid().recorded[:2]), jax.random.key(0))
    eps_fn = eps_fn_of(network, noise, "eps")
    with jax.default_matmul_precision("highest"):
        gradient = jax.jit(
            lambda p: sample_gradient(dsm(noise, x0), eps_fn, p, path, cond, normalise=False)
        )(params)
    flat = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(gradient)]
    norm = float(np.sqrt(sum((leaf**2).sum() for leaf in flat)))
    directions = [[leaf / norm for leaf in flat]]
    directions += [[rng.normal(size=leaf.shape) for leaf in flat] for _ in range(3)]
    signal, sigma = (np.asarray(part, np.float64) for part in (noise.signal, noise.noise))
    states, times = np.asarray(path.x, np.float64), np.asarray(path.t)

    def loss(leaves: list[Any]) -> Any:
        """mean (n - eps)^2 over the states, n the noise from x0 to each."""
        exact, total = network.clone(dtype=jnp.float64), jnp.zeros(())
        for x, t in zip(states, times, strict=True):
            n = (x - signal[t] * x0) / sigma[t]
            said = {"params": jax.tree.unflatten(tree, leaves)}
            eps = cast(jax.Array, exact.apply(said, jnp.asarray(x), int(t), jnp.asarray(cond)))
            total = total + jnp.mean((n - eps) ** 2)
        return total

    errors = []
    with jax.enable_x64(True), jax.default_device(_host()):
        compiled = jax.jit(loss)
        for direction in directions:
            ends = [
                float(compiled([w + sign * v for w, v in zip(weights, direction, strict=True)]))
                for sign in (STEP, -STEP)
            ]
            slope = sum(float((g * v).sum()) for g, v in zip(flat, direction, strict=True))
            errors.append(abs((ends[0] - ends[1]) / (2 * STEP) - slope) / norm)
    passed = max(errors) <= GRADIENT_BOUND
    return Check(
        GROUP,
        "gradient",
        "ok" if passed else "failed",
        f"{len(errors)} directions beside finite differences: largest error {max(errors):.1e} of "
        f"the gradient's norm (at most {GRADIENT_BOUND:g})",
        "" if passed else OTHER_DEVICE,
        {"errors": errors, "bound": GRADIENT_BOUND},
    )


def _host() -> Any:
    """The CPU, or where JAX_PLATFORMS leaves it out the first device."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]


def stored(place: Path) -> Check:
    """A feature store whose writing process is killed; what it has as complete is read, what it
    lacks is written, and all of it is what was to be written."""
    folder = Path(tempfile.mkdtemp(prefix=".ctrak-doctor-", dir=place))
    try:
        return _written_and_killed(folder / "store")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _written_and_killed(place: Path) -> Check:
    _killed_writer(place)
    store = FeatureStore.open(place, writer.KEY)
    complete = len(store.chunks) - len(store.missing)
    start = time.monotonic()
    store.verify()  # the checksums of what is complete
    for rows in store.missing:
        store.write(rows, {"features": writer.values(rows)})
    store.seal()
    again = FeatureStore.open(place, writer.KEY)
    found, seconds = again.read(), time.monotonic() - start
    wanted = writer.values(range(writer.ROWS))
    wrong = int((found != wanted).any(axis=1).sum())
    numbers = {
        "complete_when_killed": complete,
        "chunks": len(store.chunks),
        "wrong_rows": wrong,
        "bytes": wanted.nbytes,
        "rewritten_and_read_s": round(seconds, 2),
    }
    said = f"writer killed after {complete} of {len(store.chunks)} chunks; all chunks read back"
    if not wrong:
        return Check(GROUP, "store", "ok", f"{said} whole", numbers=numbers)
    said += f", {wrong} of {writer.ROWS} rows wrong"
    return Check(GROUP, "store", "failed", said, OTHER_DISK, numbers)


def _killed_writer(place: Path) -> None:
    """Start a process that writes the store, and kill it in the midst of it."""
    command = [sys.executable, "-m", writer.__name__, str(place)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    end = time.monotonic() + PATIENCE
    try:
        while not (place / "complete" / str(writer.KILLED_AT)).exists():
            if process.poll() is not None:
                said = process.communicate()[1].decode(errors="replace").splitlines()
                raise OSError(said[-1] if said else f"the writer ended with {process.returncode}")
            if time.monotonic() > end:
                raise OSError(f"the writing process wrote nothing in {PATIENCE:g} s")
            time.sleep(0.001)
    finally:
        process.kill()
        process.communicate()
