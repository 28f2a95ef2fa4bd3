"""Are the numbers right on this device? Features and projections beside more exact ones."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache, partial
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from ctrak_jax import reward
from ctrak_jax.bench.accelerator import networks, truth
from ctrak_jax.bench.accelerator.measuring import Measurement, apart
from ctrak_jax.bench.accelerator.sizes import AcceleratorSizes
from ctrak_jax.gradient import flatten_samples, path_gradients
from ctrak_jax.precision import Level, described, policy_of
from ctrak_jax.projection import KINDS, Projection, implementation_of, project, reference
from ctrak_jax.schedule import level
from ctrak_jax.trajectory import Guidance, grid, invert
from ctrak_jax.typing import Array

LEVELS: tuple[Level, ...] = get_args(Level)
ROWS = 4096
"""Rows of R that are written out at a time."""


def kernel_of(kind: Any) -> str | None:
    """The kernel that makes a kind on this backend, if any: for few columns ``auto`` takes none."""
    found = implementation_of(Projection(2**15, kind))
    return None if found == "xla" else found


def projected(sizes: AcceleratorSizes, kind: Any, implementation: Any) -> dict[str, Any]:
    """A projection beside the matrix written out in float64; a kernel also beside plain JAX."""
    d, k, samples = sizes.reference
    g = _gradients(samples, d)
    asked = Projection(k, kind, implementation=implementation)
    fn = jax.jit(lambda g: project(g, asked))
    once, again = np.asarray(fn(g)), np.asarray(fn(g))
    found = {"d": d, "k": k, "same_bits_twice": bool((once == again).all())}
    found |= apart(once, _written_out(sizes, kind))
    if implementation != "xla":
        plain = np.asarray(jax.jit(lambda g: project(g, asked._replace(implementation="xla")))(g))
        found["from_xla"] = apart(once, plain)["relative_error"]
        found["same_bits_as_xla"] = float((once == plain).mean())
    return found


def _gradients(samples: int, d: int) -> np.ndarray:
    return np.random.default_rng(2).standard_normal((samples, d)).astype(np.float32)


@lru_cache(maxsize=1)
def _written_out(sizes: AcceleratorSizes, kind: str) -> np.ndarray:
    d, k, samples = sizes.reference
    g, total = _gradients(samples, d).astype(np.float64), np.zeros((samples, k))
    # Rows of `sjlt` come in groups, each compared with every row that is asked for.
    step = k // reference.NONZEROS if kind == "sjlt" else ROWS
    for first in range(0, d, step):
        rows = np.arange(first, min(first + step, d))
        total += g[:, rows] @ reference.matrix(kind, 0, rows, k, d)
    return total


def features(sizes: AcceleratorSizes, network: str, dtype: str, wanted: Level) -> dict[str, Any]:
    """Features of both kinds beside those in float32 with the word ``highest``, here."""
    found: dict[str, Any] = {"products": described(wanted)}
    if (other := measured_as(dtype, wanted)) is not None:
        found["note"] = f"on this backend the same products as run.precision {other}"
    exact = _features(sizes, network, "float32", "highest")
    for name, rows in _features(sizes, network, dtype, other or wanted).items():
        if not np.isfinite(rows).all():
            raise FloatingPointError(f"{name}: features are not finite")
        found |= {f"{name}_{key}": value for key, value in apart(rows, exact[name]).items()}
    return found


def measured_as(dtype: str, wanted: Level) -> Level | None:
    """The setting with the same products whose features are measured, or known to be exact."""
    other: Level = "highest" if dtype == "float32" else "default"
    return other if wanted != other and policy_of(wanted) == policy_of(other) else None


@cache
def _features(
    sizes: AcceleratorSizes, network: str, dtype: str, wanted: Level
) -> dict[str, np.ndarray]:
    if network == "dit":
        made = networks.dit(sizes.network, sizes.pixels, dtype, wanted)
    else:
        made = networks.unet(sizes.compared, dtype, wanted)
    to = Projection(4096, "srht")
    calls = {"dps": networks.training, "slider": networks.asking}
    jobs = {name: call(made, sizes, sizes.samples, to) for name, call in calls.items()}
    with ThreadPoolExecutor() as pool:  # one is compiled while the next is traced
        programs = {
            name: pool.submit(jax.jit(job.fn).lower(*job.args).compile)
            for name, job in jobs.items()
        }
    return {name: np.asarray(programs[name].result()(*job.args)) for name, job in jobs.items()}


def beside_float64(sizes: AcceleratorSizes, loss: str) -> dict[str, Any]:
    """The gradient of one sample of a small network in float32 with the word ``highest``, beside
    float64 on the host."""
    size = "least" if sizes.network == "least" else "tiny"
    made = networks.dit(size, 16, wanted="highest")
    batch = {name: values[0] for name, values in networks.random_batch(made, 1).items()}
    steps = grid(made.schedule.steps, sizes.steps, sizes.every)
    network, params = made.found
    functions = network.given(params.others)
    against = batch["negative"] if loss == "dps" else np.zeros_like(batch["negative"])

    @jax.jit
    def ours(chosen: Any) -> Array:
        x0, cond = jnp.asarray(batch["x0"]), jnp.asarray(batch["cond"])
        guidance = Guidance(networks.GUIDANCE, jnp.asarray(against))
        path = invert(functions.exact_fn, chosen, made.schedule, steps, x0, cond, guidance=guidance)
        losses = {
            "dps": lambda: reward.dps(made.schedule, x0),
            "slider": lambda: reward.slider(jnp.asarray(batch["negative"])),
        }
        (g,) = path_gradients(
            losses[loss](), functions.layers_fn, chosen, path, cond, normalise=[True]
        )
        return flatten_samples(jax.tree.map(lambda leaf: leaf[None], g))

    from ctrak_jax.models import DiT

    exact = DiT(**networks.dit_size(size)._asdict(), dtype=jnp.float64)

    def eps(chosen: Any, x: Any, t: Any, cond: Any) -> Any:
        return exact.apply({"params": network.merge(chosen, params.others)}, x, t, cond)

    found = truth.gradients(
        eps,
        params.chosen,
        level(made.schedule, np.arange(made.schedule.steps)),
        steps,
        batch["x0"],
        batch["cond"],
        batch["negative"],
        networks.GUIDANCE,
        loss,
    )
    return apart(np.asarray(ours(params.chosen)), found[None])


def measurements(sizes: AcceleratorSizes) -> list[Measurement]:
    """One of every kind comes before the second of any; projections first, which need no
    network."""
    costs, part = sizes.costs, "numerics"
    found = []
    for kind in KINDS:
        run, later = partial(projected, sizes, kind), 0 if kind == "rademacher" else 7
        if kernel := kernel_of(kind):
            name = f"{kind}, {kernel}, d = {sizes.reference[0]:,}"
            found.append(Measurement(part, name, costs.reference, partial(run, kernel), later))
        name = f"{kind}, xla, d = {sizes.reference[0]:,}"
        found.append(Measurement(part, name, costs.reference, partial(run, "xla"), 1 + later))
    for loss in ("dps", "slider"):
        run = partial(beside_float64, sizes, loss)
        size = "least" if sizes.network == "least" else "tiny"
        name = f"{size} DiT, {loss}, float32 highest beside float64"
        found.append(Measurement(part, name, costs.gradient, run, 2 if loss == "dps" else 9))
    ranks = {("float32", "default"): 3, ("bfloat16", "default"): 5, ("float32", "high"): 9}
    for network, late in (("dit", 0), ("unet", 1)):
        size = sizes.network if network == "dit" else sizes.compared
        seconds = costs.comparison_dit if network == "dit" else costs.comparison_unet
        for dtype in ("float32", "bfloat16"):
            for wanted in LEVELS:
                if (dtype, wanted) == ("float32", "highest"):
                    continue  # it is what the others stand beside
                name = f"{size} {network}, {dtype}, run.precision {wanted}"
                rank = ranks.get((dtype, wanted), 10) + late
                run = partial(features, sizes, network, dtype, wanted)
                again = measured_as(dtype, wanted) is not None and wanted != "default"
                found.append(Measurement(part, name, 0.1 if again else seconds, run, rank))
    return found
