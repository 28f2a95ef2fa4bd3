"""The demo's model trained again on this machine, beside the one that comes with the package.

    python -m benchmarks.demo [--out runs/demo-again]

On a machine of the kind that it was trained on all parameters are the same; elsewhere training
amplifies rounding, and what the models predict and answer is compared.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ctrak_jax import demo, pipeline
from ctrak_jax.demo import weights
from ctrak_jax.models.denoiser import eps_fn_of
from ctrak_jax.schedule import add_noise

IMAGES = 64


def main(out: Path) -> None:
    answers = {
        "trained here": demo.run(out / "trained", trained=True),
        "package": demo.run(out / "package"),
    }
    here = pipeline.prepare(demo.config(), out / "trained")[0]
    packaged = pipeline.prepare(demo.config(), out / "package")[0].load().params
    kept = out / "model.safetensors"
    key = made_from(out)
    weights.write(here.load().params, key, kept)
    architecture, data = here.architecture, here.training_set
    mine = weights.read(architecture.template, key, kept)
    eps_fn = eps_fn_of(architecture.network, *architecture.noise)
    x0, cond = data.train_images(np.arange(IMAGES)), data.train_conditions[:IMAGES]
    noise = jax.random.normal(jax.random.key(0), x0.shape)

    @jax.jit
    def predicted(params, t):
        states = add_noise(architecture.schedule, x0, t, noise)
        return jax.vmap(lambda x, c: eps_fn(params, x, t, c))(states, cond)

    apart = {}
    for t in np.asarray(here.recipe.grid.recorded).tolist():
        a, b = predicted(mine, t), predicted(packaged, t)
        apart[t] = float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))
    pairs = zip(jax.tree.leaves(mine), jax.tree.leaves(packaged), strict=True)
    equal = [np.asarray(a) == np.asarray(b) for a, b in pairs]
    found = {
        "parameters": sum(part.size for part in equal),
        "equal": int(sum(part.sum() for part in equal)),
        "relative_difference_of_predictions": apart,
        "carriers": {name: dict(answer.carriers) for name, answer in answers.items()},
    }
    print(json.dumps(found, indent=1))


def made_from(out: Path) -> dict:
    """What both models were made from."""
    model = json.loads((out / "trained" / "model" / "model.json").read_text())
    return model["made_from"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/demo-again"))
    main(parser.parse_args().out)
