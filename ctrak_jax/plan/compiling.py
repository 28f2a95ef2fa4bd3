"""Compile the featurization step for TPUs, without one: the process behind ``ctrak plan``.

Reads one JSON object on stdin, ``{"config", "topology", "samples", "batch", "only"}``, and writes
one per line on stdout: what is compiled, then every program as soon as it is; or
``{"error": ...}``. In a process of its own because libtpu, once loaded, stays, and because of all
that it prints.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from ctrak_jax import devices
from ctrak_jax.attribution import TrainBatch, Weights, train_features, zeros_like
from ctrak_jax.config import Config
from ctrak_jax.config.recipes import recipe_of
from ctrak_jax.data import build
from ctrak_jax.errors import UsageError
from ctrak_jax.inputs.base import NegativeRule
from ctrak_jax.inputs.batches import described
from ctrak_jax.inputs.pixels import Pixels
from ctrak_jax.methods import needs_errors
from ctrak_jax.models.architecture import Architecture, architecture_of, model_files_of
from ctrak_jax.plan import hlo
from ctrak_jax.plan.blocks import depths_of, with_depths
from ctrak_jax.plan.bounds import Taken, dearest, largest_batch
from ctrak_jax.plan.chips import chip_of
from ctrak_jax.precision import policy_of
from ctrak_jax.projection import implementation_of
from ctrak_jax.run.network import placed, split
from ctrak_jax.run.variants import feature_sets


def main() -> None:
    """Answer the question on stdin."""
    asked = json.load(sys.stdin)
    try:
        compile_all(Config(**asked.pop("config")), **asked)
    except UsageError as error:
        _say({"error": str(error)})


def _say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def compile_all(config: Config, topology: str, samples: int, batch: int | None, only: bool) -> None:
    """Compile what a run over ``samples`` featurizes at the most expense, at ``batch`` samples per
    chip (default: the config's), then in search of the largest unless that is the ``only`` one
    wanted.

    Raises:
        UsageError: no such topology, or the config cannot be featurized there.
    """
    mesh = devices.topology_mesh(topology, config.mesh.model)
    step = step_of(config, mesh, samples)
    chips = devices.chips_of(mesh)
    size = config.gradient.batch if batch is None else batch * chips
    first = -(-size // mesh.size)
    about = {"devices": mesh.size, "chips": chips, "gradients": step.gradients}
    whole = sum(leaf.size for leaf in jax.tree.leaves(step.params))
    about |= {"parameters": step.params.size, "network_parameters": whole}
    about |= {"projection": step.projection}
    _say(about | {"searched": not only})
    compiled = devices.over_samples(step.fn, mesh, step.specs)
    shared = devices.described(step.params, mesh, step.specs)
    spread = devices.samples_spec(mesh)

    def measure(count: int) -> Taken | None:
        begin = time.monotonic()
        rows = devices.described(step.batch(count * mesh.size), mesh, spread)
        line: dict[str, Any] = {"batch": count, "memory": None}
        try:
            program = compiled.lower(shared, rows).compile()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or "hbm" not in str(error).lower():
                raise
            _say(line | {"compile_s": time.monotonic() - begin})
            return None
        line["compile_s"] = time.monotonic() - begin
        found, cost = program.memory_analysis(), hlo.cost(_text(program, topology))
        assert found is not None
        line["memory"] = memory = {
            "arguments": found.argument_size_in_bytes,
            "outputs": found.output_size_in_bytes - found.alias_size_in_bytes,
            "temporaries": found.temp_size_in_bytes,
            "code": found.generated_code_size_in_bytes,
        }
        line |= {"flops": cost.flops, "passes": cost.passes, "bytes": cost.bytes}
        _say(line | {"collectives": {k: c._asdict() for k, c in cost.collectives.items()}})
        return Taken(sum(memory.values()), memory["arguments"] + memory["code"])

    if only:
        measure(first)
    else:
        largest_batch(measure, first, chip_of(topology).hbm * chips // mesh.size)


def _text(program: Any, topology: str) -> str:
    """A compiled program's text. libtpu may use instructions that this jaxlib does not know (seen
    with tpu7x, libtpu 0.0.52 and jaxlib 0.10.2: async-update)."""
    try:
        return program.as_text()
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UsageError(
            f"--topology {topology}: compiled, but jax {jax.__version__} cannot read the program "
            f"({reason}); install the libtpu that this jax names, or a newer jax."
        ) from None


class FeaturizeStep(NamedTuple):
    """What featurize splits over devices, ``fn(params, batch)``, with the shapes of the parameters,
    their placement, the shapes of a batch by its size, how many gradients it takes, and how many
    blocks of each kind the network has, where they are alike."""

    fn: Callable[[Any, Any], Any]
    params: Weights
    specs: Weights
    batch: Callable[[int], TrainBatch]
    projection: str
    gradients: int
    depths: Mapping[str, int]


def step_of(
    config: Config, mesh: Mesh, samples: int, depths: Mapping[str, int] | None = None
) -> FeaturizeStep:
    """What a run over ``samples`` featurizes at the most expense, as it is on the TPUs of a mesh:
    no folder, and no model but its shapes; with other numbers of blocks where they are given."""
    specs = dearest(feature_sets(config, samples), config).specs(config)
    architecture, negatives = _shapes(config)
    if depths:
        network = with_depths(architecture.network, depths)
        architecture = replace(architecture, network=network)
    recipe = recipe_of(config, architecture.schedule)
    implementation = implementation_of(recipe.projection, backend="tpu")
    if implementation == "pallas_gpu":
        raise UsageError("projection.implementation=pallas_gpu is no TPU's; use auto.")
    recipe = replace(recipe, projection=recipe.projection._replace(implementation=implementation))
    gradient, shapes = config.gradient, architecture.denoiser(architecture.template, mesh)
    found = split(shapes, gradient.include, gradient.exclude, recipe.projection)
    network, params, placing = placed(found, architecture, mesh)
    null, errors = zeros_like(architecture.condition), bool(needs_errors(specs))
    features = partial(train_features, recipe, network, null=null, errors=errors)

    def batch(count: int) -> TrainBatch:
        return described(count, architecture.sample, architecture.condition, negatives)

    return FeaturizeStep(
        lambda w, b: features(w, list(specs), b),
        params,
        placing,
        batch,
        implementation,
        len(specs),
        depths_of(architecture.network),
    )


def _shapes(config: Config) -> tuple[Architecture, int]:
    """The network, and how many negatives a sample has; of a text-to-image network neither depends
    on the data set."""
    checkpoint, t = config.model.checkpoint, config.trajectory
    shape, size, negatives = (0, 0, 3), 0, config.negatives
    if config.model.kind != "text-to-image":
        data, rule = build(config.data), NegativeRule(t.negative, t.negatives, t.negative_prompt)
        rows = np.arange(len(data.train_index))
        negatives = Pixels(data, rule).negatives(rows[:1], rows).shape[1]
        shape, size = data.image_shape, data.conditions.size
    elif checkpoint is None:
        raise UsageError(
            "model.checkpoint is missing; give the folder of a text-to-image model, whose "
            "config.json files are enough."
        )
    files = model_files_of(config.model, Path())
    architecture = architecture_of(
        config.model,
        config.schedule,
        files=files,
        image_shape=shape,
        condition_size=size,
        precision=policy_of(config.run.precision, "tpu"),
    )
    return architecture, negatives


if __name__ == "__main__":
    main()
