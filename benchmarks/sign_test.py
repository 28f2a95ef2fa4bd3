"""Does a gradient step on the top-ranked training images make the concept more present?

    python -m benchmarks.sign_test RUN

For every reported local question of a finished run: one step of fixed length against L_train of the
ten top-ranked, ten random and ten bottom-ranked training images; printed is the mean change of the
question's concept reward (L_train as the run sets it, under the null condition where labels are
not read), minus the slider loss with its target held where it was (positive = the
prediction moved towards the concept).
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ctrak_jax import config, pipeline
from ctrak_jax.attribution import TrainBatch, guided_inversions
from ctrak_jax.gradient import global_norm, sample_gradient
from ctrak_jax.reward import dps
from ctrak_jax.stages.context import Context
from ctrak_jax.store import read_scores
from ctrak_jax.trajectory import forward_path, invert

STEP = 1e-4
"""Length of the step as a share of the parameters' norm."""
SET = 10


def changes(ctx: Context) -> dict[str, np.ndarray]:
    """Change of the concept reward by set of images: name -> [question]."""
    network, weights, _ = ctx.placed(ctx.load())
    params, recipe = weights.chosen, ctx.recipe
    eps_fn, wanted = network.given(weights.others).eps_fn, ctx.config.trajectory
    null = jnp.asarray(ctx.inputs.null)

    def train_gradient(batch: TrainBatch) -> Any:
        def one(item: TrainBatch) -> Any:
            x0, own, index, negatives = item
            cond = own if wanted.condition == "own" else null
            inverted = partial(invert, eps_fn, params, recipe.schedule, recipe.grid, x0)
            if wanted.path == "forward":
                key = jax.random.fold_in(jax.random.key(recipe.seed), index)
                path = forward_path(recipe.schedule, x0, recipe.grid.recorded, key)
            elif wanted.condition == "own":
                path = guided_inversions(recipe, inverted, cond, negatives)
            else:
                path = inverted(cond)
            loss = dps(recipe.schedule, x0)
            return sample_gradient(loss, eps_fn, params, path, cond, normalise=True)

        return jax.tree.map(lambda g: g.mean(0), jax.vmap(one)(batch))

    def reward_change(gradient: Any, x0: Any, cond: Any, minus: Any) -> Any:
        path = invert(eps_fn, params, recipe.schedule, recipe.grid, x0, cond)
        size = STEP * global_norm(params) / global_norm(gradient)
        moved = jax.tree.map(lambda p, g: p - size * g, params, gradient)

        def predict(params: Any, cond: Any) -> Any:
            return jax.vmap(eps_fn, (None, 0, 0, None))(params, path.x, path.t, cond)

        before = predict(params, cond)
        delta = before - predict(params, minus)
        return jnp.mean(delta**2) - jnp.mean((before + delta - predict(moved, cond)) ** 2)

    gradient_of, change_of = jax.jit(train_gradient), jax.jit(reward_change)
    asked = ctx.questions()
    scores = read_scores(ctx.folder.scores("concept-trak"))
    samples, questions = ctx.samples(), ctx.question_inputs
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {"top": [], "random": [], "bottom": []}
    for i, q in enumerate(asked):
        if (q.scope, q.split) != ("local", "report"):
            continue
        order = np.argsort(-scores[i], kind="stable")
        sets = {"top": order[:SET], "random": rng.permutation(order)[:SET], "bottom": order[-SET:]}
        query = questions.batch(asked, np.array([[i]]))
        for name, rows in sets.items():
            g = gradient_of(samples.batch(rows))
            change = change_of(g, query.x0[0], query.cond[0], query.minus.conditions[0, 0, 0])
            found[name].append(float(change))
    return {name: np.array(values) for name, values in found.items()}


def main() -> None:
    """Print mean and standard error of every set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    run = parser.parse_args().run
    ctx = pipeline.prepare(config.load(run / "config.yaml"), run)[0]
    for name, values in changes(ctx).items():
        error = values.std(ddof=1) / np.sqrt(len(values))
        print(f"{name:7s} {values.mean():+.3e} +- {error:.1e} ({len(values)} questions)")


if __name__ == "__main__":
    main()
