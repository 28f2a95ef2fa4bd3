"""Memory of the maps of ``ctrak explain``, beside that of one sample's gradient.

    python -m benchmarks.explain_memory RUN

XLA's temporaries of the compiled programs, for the method Concept-TRAK of a finished run: the
feature of one training image, and the parts of the scores of one and of ten.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ctrak_jax import config, pipeline
from ctrak_jax.attribution import train_features, train_parts
from ctrak_jax.methods import METHODS
from ctrak_jax.run.variants import MAIN
from ctrak_jax.stages.context import Context

SPEC = METHODS["concept-trak"].train


def temporaries(program: Callable[..., Any], **inputs: Any) -> float:
    """Of a compiled program, in MB."""
    memory = jax.jit(program).lower(**inputs).compile().memory_analysis()
    assert memory is not None
    return memory.temp_size_in_bytes / 1e6


def rows(ctx: Context) -> Iterator[tuple[str, float]]:
    """What and its megabytes."""
    assert SPEC is not None
    placed, samples, null = ctx.placed(ctx.load()), ctx.samples(MAIN), ctx.inputs.null
    given = ctx.recipe, placed.network
    feature = partial(train_features, *given, specs=[SPEC], null=null)
    parts = partial(train_parts, *given, spec=SPEC, null=null)
    z = jnp.zeros(ctx.recipe.projection.k)
    one, ten = (samples.batch(np.arange(n), guided=False) for n in (1, 10))
    yield "the feature of one image", temporaries(feature, params=placed.params, batch=one)
    yield "parts of one image", temporaries(parts, params=placed.params, batch=one, z=z)
    yield "parts of ten images", temporaries(parts, params=placed.params, batch=ten, z=z)
    size = sum(leaf.size for leaf in jax.tree.leaves(placed.params.chosen))
    yield "the differentiated parameters", 4 * size / 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path)
    asked = parser.parse_args()
    (ctx,) = pipeline.prepare(config.load(asked.run / "config.yaml"), asked.run)
    print("| what | MB |\n|---|---:|")
    for what, megabytes in rows(ctx):
        print(f"| {what} | {megabytes:.2f} |")


if __name__ == "__main__":
    main()
