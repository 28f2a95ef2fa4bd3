"""Compile the featurization step for TPUs that are not here: the process behind ``ctrak plan``.

Reads one JSON object on stdin, ``{"config", "topology", "batch", "only"}``, and writes one a line
on stdout: what is compiled, then every program as soon as it is; or ``{"error": ...}``. In a
process of its own because libtpu, once loaded, stays, and because of all that it prints.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from ctrak_jax import devices
from ctrak_jax.config import Config
from ctrak_jax.data import Conditions, Dataset, build
from ctrak_jax.data.raw import RawImages
from ctrak_jax.errors import UsageError
from ctrak_jax.plan import hlo
from ctrak_jax.plan import report as plan
from ctrak_jax.projection import implementation_of
from ctrak_jax.stages import model
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.gradients import (
    Weights,
    needs_errors,
    projection_of,
    selected,
    train_rows,
    train_specs,
)
from ctrak_jax.stages.samples import described
from ctrak_jax.stages.variant import MAIN


def main() -> None:
    """Answer the question on stdin."""
    asked = json.load(sys.stdin)
    try:
        compile_all(Config(**asked.pop("config")), say=_say, **asked)
    except UsageError as error:
        _say({"error": str(error)})


def _say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def compile_all(
    config: Config,
    *,
    topology: str,
    batch: int | None,
    only: bool,
    say: Callable[[dict[str, Any]], None],
) -> None:
    """Compile at ``batch`` samples a chip (default: the config's), then in search of the largest
    unless that is the ``only`` one wanted.

    Raises:
        UsageError: no such topology, or the config cannot be featurized there.
    """
    ctx = context_of(config, devices.topology_mesh(topology, config.mesh.model))
    step = step_of(ctx)
    chips = devices.chips_of(ctx.mesh)
    size = config.gradient.batch if batch is None else batch * chips
    first = -(-size // ctx.mesh.size)
    specs = train_specs(config.methods)
    say(
        {
            "devices": ctx.mesh.size,
            "chips": chips,
            "gradients": len(specs),
            "parameters": step.parameters,
            "projection": ctx.config.projection.implementation,
            "searched": not only,
        }
    )
    compiled = devices.over_samples(step.fn, ctx.mesh, step.specs)
    shared = devices.described(step.shared, ctx.mesh, step.specs)
    split = devices.samples_spec(ctx.mesh)

    def measure(count: int) -> plan.Taken | None:
        begin = time.monotonic()
        rows = devices.described(described(ctx, count * ctx.mesh.size), ctx.mesh, split)
        line: dict[str, Any] = {"batch": count, "memory": None}
        try:
            program = compiled.lower(shared, rows).compile()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or "hbm" not in str(error).lower():
                raise
            say(line | {"compile_s": time.monotonic() - begin})
            return None
        line["compile_s"] = time.monotonic() - begin
        found, cost = program.memory_analysis(), hlo.cost(_text(program, topology))
        assert found is not None
        line["memory"] = {
            "arguments": found.argument_size_in_bytes,
            "outputs": found.output_size_in_bytes - found.alias_size_in_bytes,
            "temporaries": found.temp_size_in_bytes,
            "code": found.generated_code_size_in_bytes,
        }
        say(
            line
            | {
                "flops": cost.flops,
                "passes": cost.passes,
                "bytes": cost.bytes,
                "collectives": {k: c._asdict() for k, c in cost.collectives.items()},
            }
        )
        memory = line["memory"]
        return plan.Taken(sum(memory.values()), memory["arguments"] + memory["code"])

    if only:
        measure(first)
    else:
        plan.largest_batch(measure, first, plan.chip_of(topology).hbm * chips // ctx.mesh.size)


def _text(program: Any, topology: str) -> str:
    """A compiled program's text.

    Raises:
        UsageError: libtpu uses instructions that this jaxlib does not know (seen with tpu7x, libtpu
            0.0.52 and jaxlib 0.10.2: async-update).
    """
    try:
        return program.as_text()
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UsageError(
            f"--topology {topology}: compiled, but jax {jax.__version__} cannot read the program "
            f"({reason}); install the libtpu that this jax names, or a newer jax."
        ) from None


def context_of(config: Config, mesh: Mesh) -> Context:
    """The config's featurization as it is on the TPUs of a mesh: no folder, and no model but its
    shapes.

    Raises:
        UsageError: there is nothing to featurize, or the data set cannot be as configured.
    """
    if not train_specs(config.methods):
        raise UsageError(f"methods={list(config.methods)}: none of them featurizes anything.")
    training_set = _data(config)
    ctx = Context(
        config=config,
        root=Path(),
        seed=config.run.seeds[0],
        training_set=training_set,
        dataset=training_set,
        mesh=mesh,
    )
    implementation = implementation_of(projection_of(ctx), backend="tpu")
    if implementation == "pallas_gpu":
        raise UsageError("projection.implementation=pallas_gpu is no TPU's; use auto.")
    projection = config.projection.model_copy(update={"implementation": implementation})
    return replace(ctx, config=config.model_copy(update={"projection": projection}))


def _data(config: Config) -> Dataset:
    """The data set; an empty one for a text-to-image network, whose shapes do not depend on it.

    Raises:
        UsageError: there is no folder of such a network.
    """
    if config.model.kind != "text-to-image":
        return build(config.data)
    if config.model.checkpoint is None:
        raise UsageError(
            "model.checkpoint is missing; give the folder of a text-to-image model, whose "
            "config.json files are enough."
        )
    raw = RawImages(name="", images=np.zeros((0, 1, 1, 3), np.uint8), attributes={})
    return Dataset(raw=raw, conditions=Conditions({}), hold_out=(), train_index=np.arange(0))


class Step(NamedTuple):
    """What featurize splits over devices, ``fn(shared, batch) -> rows``; the shapes of ``shared``
    and how it is placed; the number of parameters whose gradients are projected."""

    fn: Callable[[Any, Any], Any]
    shared: Weights
    specs: Weights
    parameters: int


def step_of(ctx: Context) -> Step:
    """The step of a config.

    Raises:
        UsageError: a text-to-image model's folder lacks a file or is of another kind of model, or
            the parameters cannot be selected as configured.
    """
    chosen = selected(ctx, ctx.denoiser(model.template(ctx)), MAIN)
    specs = train_specs(ctx.config.methods)
    fn = partial(train_rows, ctx, chosen, list(specs), bool(needs_errors(specs)))
    return Step(fn, chosen.weights, chosen.specs, chosen.selection.size)


if __name__ == "__main__":
    main()
