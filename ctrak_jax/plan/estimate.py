"""A plan without a compiler, from the traced step alone: ``ctrak plan --estimate``.

A deep network of equal blocks is traced with few of them (:mod:`ctrak_jax.plan.blocks`), batches
of one and two samples; every number is a line in both. Weights in parts are gathered block by
block: the largest block's stand in memory twice, one in use and one on its way.
"""

import math
from collections import Counter
from typing import Any, NamedTuple

import jax

from ctrak_jax.config import Config
from ctrak_jax.devices import local_mesh
from ctrak_jax.plan import blocks, traced
from ctrak_jax.plan.bounds import Taken, largest_batch
from ctrak_jax.plan.chips import chip_of
from ctrak_jax.plan.compiling import FeaturizeStep, step_of

CORES = {"tpu7x": 2}
"""Devices per chip, where there are several."""


class WeightBytes(NamedTuple):
    """Bytes of the weights on one device, and of those that are gathered at a time."""

    held: int
    gathered: int


def estimated(
    config: Config, topology: str, samples: int, batch: int | None, only: bool
) -> list[dict[str, Any]]:
    """What the compiling process would say (:mod:`ctrak_jax.plan.compiling`), line by line.

    Raises:
        UsageError: no such topology, or the config cannot be featurized.
    """
    chip = chip_of(topology)
    generation, _, axes = topology.partition(":")
    chips, cores = math.prod(map(int, axes.split("x"))), CORES.get(generation, 1)
    step = step_of(config, local_mesh(1), samples)
    line = _per_batch(config, step, samples)
    parts = math.gcd(config.mesh.model, chips * cores)
    held, gathered = _weights(step, parts)
    lines: list[dict[str, Any]] = []

    def measure(count: int) -> Taken | None:
        found = {name: one + (count - 1) * more for name, (one, more) in line.items()}
        memory = {
            "arguments": int(found["arguments"]) + held,
            "outputs": int(found["outputs"]),
            "temporaries": int(found["temporaries"]) + gathered,
            "code": 0,
        }
        total = sum(memory.values())
        fits = total <= chip.hbm // cores
        about = {"batch": count, "compile_s": 0.0, "memory": memory if fits else None}
        work = {name: found[name] for name in ("flops", "passes", "bytes")}
        lines.append(about | work | {"collectives": {}})
        return Taken(total, held + gathered) if fits else None

    first = -(-(config.gradient.batch if batch is None else batch * chips) // (chips * cores))
    if only:
        measure(first)
    else:
        largest_batch(measure, first, chip.hbm // cores)
    about = {"devices": chips * cores, "chips": chips, "gradients": step.gradients}
    about |= {"parameters": step.params.size, "network_parameters": _size(step.params)}
    about |= {"projection": step.projection, "searched": not only, "estimated": True}
    return [about, *lines]


def _per_batch(config: Config, step: FeaturizeStep, samples: int) -> dict[str, tuple[float, float]]:
    """Of every number that of one sample, and by how much it grows with each further one."""
    shallow = blocks.shallow(step.depths) if step.depths else [{}]
    steps = [step_of(config, local_mesh(1), samples, few) if few else step for few in shallow]
    one, two = (
        blocks.extrapolated([_taken(each, count) for each in steps], shallow, step.depths)
        for count in (1, 2)
    )
    return {name: (value, two[name] - value) for name, value in one.items()}


def _taken(step: FeaturizeStep, count: int) -> dict[str, float]:
    batch = step.batch(count)
    program = traced.traced(step.fn, step.params, batch)
    given, asked = jax.tree.leaves(batch), [program.shapes[array] for array in program.asked]
    copies = sum(traced.loop_copies(program).values())
    weights = program.given[: len(jax.tree.leaves(step.params))]
    return {
        "arguments": float(sum(map(traced.size, given))),
        "outputs": float(sum(map(traced.size, asked))),
        "temporaries": float(traced.temporaries(program) + copies),
        **traced.work(program, weights)._asdict(),
    }


def _weights(step: FeaturizeStep, parts: int) -> WeightBytes:
    """The weights where they are divided into ``parts``."""
    held, modules = 0, Counter[str]()
    for path, leaf in ((path, leaf) for part in step.params for path, leaf in part.items()):
        divided = len(leaf.shape) > 1 and any(length % parts == 0 for length in leaf.shape)
        held += traced.size(leaf) // (parts if divided else 1)
        modules[path.partition("/")[0]] += traced.size(leaf)
    return WeightBytes(held, 2 * max(modules.values()) if parts > 1 else 0)


def _size(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))
