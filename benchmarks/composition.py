"""Does a trained model compose? Images of every combination that the pixel rule accepts.

    python -m benchmarks.composition RUN

RUN is a folder in which a model was trained (``ctrak train CONFIG --out RUN``). Of 64 images of
each combination, held-out ones included, printed is how many show their shape and colour, at the
rule's tolerance and at half of it.
"""

import argparse
from pathlib import Path

import numpy as np

from ctrak_jax import config, pipeline
from ctrak_jax.data.check import shape_reader
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.query import SEEDS_APART, sampler

IMAGES = 64


def accepted(ctx: Context, values: dict[str, str]) -> tuple[int, int]:
    """How many images of one combination are accepted: at the tolerance, at half of it."""
    data = ctx.config.data
    reader = shape_reader(data.shapes, data.colors, data.image_size)
    denoiser = ctx.load()
    drawn = sampler(ctx, denoiser)(
        denoiser.params, ctx.dataset.conditions.encode(values), np.arange(IMAGES) + SEEDS_APART // 4
    )
    readings = [reader.read(image) for image in drawn]
    wanted = (values["shape"], values["color"])
    errors = np.array([r.error for r in readings if (r.shape, r.color) == wanted])
    return int((errors < reader.tolerance).sum()), int((errors < reader.tolerance / 2).sum())


def main() -> None:
    """One line a training seed and combination."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    run = parser.parse_args().run
    for ctx in pipeline.prepare(config.load(run / "config.yaml"), run):
        for values in ctx.dataset.conditions.combinations():
            loose, strict = accepted(ctx, values)
            held_out = " (held out)" if ctx.dataset.is_held_out(values) else ""
            name = " ".join(values.values())
            print(f"seed {ctx.seed} {name}{held_out}: {loose}, {strict} of {IMAGES}", flush=True)


if __name__ == "__main__":
    main()
