"""What carries precision where nothing is named: one lever of the method at a time.

    python -m benchmarks.levers RUN [--candidates 400] [--timesteps 3] [--exclude PATTERN ...]

RUN is a finished run of one training seed with local questions. Its candidates are featurized
under their own condition (named), without the attribute asked about (unnamed) and under the null
condition (label-free), by every lever of the table below at once; timesteps and damping are taken
apart afterwards, for nothing. Only validation questions are looked at, which are in distribution:
precision@10 over all candidates, and on simulated hold-outs (:mod:`benchmarks.hold_outs`), where
the candidates that carry the value together with another one of the question's are left out.
Damping is chosen per attribute by the validation questions, or is so large that the score is a
plain inner product.
"""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ctrak_jax import config, devices, metrics, pipeline
from ctrak_jax.attribution.gradients import loss_of
from ctrak_jax.attribution.network import Network, Weights
from ctrak_jax.attribution.recipe import Recipe, guidance_of
from ctrak_jax.data import Dataset
from ctrak_jax.gradient import assemble, path_gradients
from ctrak_jax.inputs.batches import train_samples
from ctrak_jax.projection import Projection, project_leaves
from ctrak_jax.reward import Loss, contrast_of
from ctrak_jax.run.questions import Question
from ctrak_jax.run.variants import Variant
from ctrak_jax.stages.context import Context
from ctrak_jax.trajectory import Path as States
from ctrak_jax.trajectory import forward_path, invert

DEPTH = 10
DAMPINGS = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e8)
"""The last one is a plain inner product in all but name."""
BATCH = 8


class Lever(NamedTuple):
    """A training gradient, and the question's gradient that it is compared with.

    Attributes:
        loss: of the candidate, a name in :mod:`ctrak_jax.reward`.
        guidance: scale of its inversion against one changed attribute; None for forward noise.
        query: the question's loss.
        query_path: where its states come from.
        normalise: divide the gradient of every timestep by its norm.
        null: guide against the null condition instead.
    """

    loss: str
    guidance: float | None
    query: str
    query_path: str
    normalise: bool = True
    null: bool = False


LEVERS: dict[str, Lever] = {
    "D-TRAK": Lever("l2", None, "l2", "forward", normalise=False),
    "TRAK": Lever("dsm", None, "dsm", "forward", normalise=False),
    "forward noise": Lever("dps", None, "slider", "inversion"),
    "forward noise, question too": Lever("dps", None, "slider", "forward"),
    "inversion": Lever("dps", 1.0, "slider", "inversion"),
    "inversion, not normalised": Lever("dps", 1.0, "slider", "inversion", normalise=False),
    "guided 2": Lever("dps", 2.0, "slider", "inversion"),
    "guided 2, not normalised": Lever("dps", 2.0, "slider", "inversion", normalise=False),
    "guided 2, null": Lever("dps", 2.0, "slider", "inversion", null=True),
    "guided 7.5": Lever("dps", 7.5, "slider", "inversion"),
}
WINDOWS = {"least noise": (0, 350), "middle": (350, 650), "most noise": (650, 1000)}
"""Timesteps, by schedule step of 1000, whose sums are kept apart."""
Key = tuple[str, float | None, bool]
"""What levers share their gradients by: loss, guidance, null."""


class Featurizer(NamedTuple):
    """All that makes features here."""

    recipe: Recipe
    network: Network
    params: Weights
    projection: Projection
    windows: Mapping[str, tuple[int, int]]

    def sums(self, loss: Loss, path: States, cond: Any) -> list[Any]:
        """The gradients of one sample: window by window, normalised and then plain."""
        masks = [(path.t >= low) & (path.t < high) for low, high in self.windows.values()]
        found = path_gradients(
            loss,
            self.network.given(self.params.others).layers_fn,
            self.params.chosen,
            path,
            cond,
            normalise=(True, False),
            finish=lambda layers, weights: [assemble(layers, weights * m) for m in masks],
        )
        return found[0] + found[1]

    def projected(self, rows: Sequence[Any]) -> jax.Array:
        """Pytrees [sample, ...] -> [row, sample, proj]."""
        joined = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *rows)
        features = jnp.asarray(project_leaves(joined, self.projection))
        return features.reshape(len(rows), -1, self.projection.k)

    def train(self, keys: Sequence[Key], null: Any, x0: Any, cond: Any, index: Any, negatives: Any):
        """Features of a batch of candidates [key x window x normalised, sample, proj]."""
        schedule, grid = self.recipe.schedule, self.recipe.grid
        exact = self.network.given(self.params.others).exact_fn

        def one(x0: Any, cond: Any, index: Any, negatives: Any) -> list[Any]:
            key = jax.random.fold_in(jax.random.key(self.recipe.seed), index)
            forward = forward_path(schedule, x0, grid.recorded, key)

            def inverted(negative: Any, scale: float) -> States:
                guidance = guidance_of(scale, negative)
                step = partial(invert, exact, self.params.chosen, schedule, grid)
                return step(x0, cond, guidance=guidance)

            rows = []
            for loss, scale, against_null in keys:
                path = forward
                if scale is not None:
                    others = null[None] if against_null or scale == 1.0 else negatives
                    paths = jax.vmap(lambda n, scale=scale: inverted(n, scale))(others)
                    path = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), paths)
                rows += self.sums(loss_of(loss, schedule, x0, cond, 1.0), path, cond)
            return rows

        return self.projected(jax.vmap(one)(x0, cond, index, negatives))

    def ask(self, kinds: Sequence[tuple[str, str]], batch: Any):
        """Features of a batch of questions, one concept each."""
        schedule, grid = self.recipe.schedule, self.recipe.grid
        exact, chosen = self.network.given(self.params.others).exact_fn, self.params.chosen

        def one(x0: Any, cond: Any, minus: Any, index: Any) -> list[Any]:
            key = jax.random.fold_in(jax.random.key(self.recipe.seed + 1), index)
            paths = {
                "forward": forward_path(schedule, x0, grid.recorded, key),
                "inversion": invert(exact, chosen, schedule, grid, x0, cond),
            }
            contrast = contrast_of(exact, chosen, cond, minus) if self.network.mixed else None
            rows = []
            for loss, path in kinds:
                of = loss_of(loss, schedule, x0, minus, 1.0, contrast)
                rows += self.sums(of, paths[path], cond)
            return rows

        return self.projected(jax.vmap(one)(*batch))


class Features(NamedTuple):
    """Sums kept apart: [row, sample, proj], where rows are found by kind, window, normalised."""

    kinds: Sequence[Any]
    windows: Sequence[str]
    rows: np.ndarray

    def of(self, kind: Any, windows: Sequence[str], *, normalise: bool) -> np.ndarray:
        """The features of some timesteps: float64 [sample, proj]."""
        first = (2 * self.kinds.index(kind) + (not normalise)) * len(self.windows)
        places = [first + self.windows.index(name) for name in windows]
        return self.rows[places].sum(0).astype(np.float64)


def in_batches(step: Any, count: int) -> np.ndarray:
    """``step`` over rows of ``count``, which gives [row, sample, proj]."""
    parts = []
    for first in range(0, count, BATCH):
        rows = np.arange(first, min(first + BATCH, count))
        parts.append(np.asarray(step(devices.padded(rows, BATCH)))[:, : len(rows)])
    return np.concatenate(parts, axis=1)


def scores(features: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Scores [damping, query, sample] at every damping, by the kernel of the samples."""
    values, vectors = np.linalg.eigh(features @ features.T)
    unit = 0.1 * values.sum() / features.shape[1]
    inside = vectors.T @ (features @ queries.T)
    damped = [inside / (np.maximum(values, 0) + r * unit)[:, None] for r in DAMPINGS]
    return np.stack([(vectors @ part).T for part in damped])


class Precision(NamedTuple):
    """Mean precision@10 of validation questions: over all candidates, and on hold-outs (NaN where
    too few carriers are left)."""

    validation: float
    held_out: float


def precision(data: Dataset, asked: Sequence[Question], found: np.ndarray) -> Precision:
    """Of the scores [query, sample] of questions about one attribute."""
    whole, apart = [], []
    for question, row in zip(asked, found, strict=True):
        carries = data.carries(question.attribute, question.value)
        whole.append(metrics.precision_at_k(np.argsort(-row), carries, DEPTH))
        for name, value in question.condition.items():
            both = carries & data.carries(name, value)
            if name != question.attribute and (carries & ~both).sum() >= DEPTH:
                order = np.argsort(-np.where(both, -np.inf, row))
                apart.append(metrics.precision_at_k(order, carries, DEPTH))
    return Precision(float(np.mean(whole)), float(np.mean(apart)) if apart else np.nan)


def at_dampings(
    data: Dataset, asked: Sequence[Question], found: np.ndarray
) -> tuple[Precision, Precision]:
    """At the damping that is best on validation (of equals the smallest), and at the largest."""
    every = [precision(data, asked, scores) for scores in found]
    best = max(every, key=lambda p: p.validation)
    return best, every[-1]


def conditions(ctx: Context) -> dict[str, Dataset]:
    """The candidates named, without each attribute, and without any."""
    names, data = ctx.config.data.condition_on, ctx.dataset
    free = data
    for name in names:
        free = free.without(name)
    return {"named": data, **{name: data.without(name) for name in names}, "": free}


def main() -> None:
    """One line of a Markdown table per lever, timesteps and condition."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--candidates", type=int, default=400)
    parser.add_argument("--negatives", type=int, default=2)
    parser.add_argument("--timesteps", default="all", help="those of the least noise, or all")
    parser.add_argument("--exclude", nargs="*", default=[], help="parameters left out")
    parser.add_argument("--levers", nargs="*", default=list(LEVERS), choices=list(LEVERS))
    given = parser.parse_args()
    changed = {"data.candidates": given.candidates, "trajectory.negatives": given.negatives}
    changed |= {"trajectory.timesteps": given.timesteps}
    settings = config.load(given.run / "config.yaml", {k: str(v) for k, v in changed.items()})
    ctx = pipeline.prepare(settings, given.run)[0]
    network, params, _ = ctx.placed(ctx.load(), Variant(exclude=tuple(given.exclude)))
    recorded = ctx.recipe.grid.recorded
    windows = {n: w for n, w in WINDOWS.items() if any(w[0] <= t < w[1] for t in recorded)}
    projection = Projection(kind="srht", k=2048)
    featurizer = Featurizer(ctx.recipe, network, params, projection, windows)
    levers = {name: LEVERS[name] for name in given.levers}
    keys = list(dict.fromkeys((one.loss, one.guidance, one.null) for one in levers.values()))
    null = jnp.asarray(ctx.inputs.null)
    train = jax.jit(lambda *batch: featurizer.train(keys, null, *batch))
    trained = {}
    for name, data in conditions(ctx).items():
        samples = train_samples(ctx.inputs_of(data), data.train_index)
        step = lambda rows, samples=samples: train(*samples.batch(samples.rows[rows]))  # noqa: E731
        trained[name] = Features(keys, list(windows), in_batches(step, len(samples.rows)))
    asked = [q for q in ctx.questions() if (q.scope, q.split) == ("local", "validation")]
    kinds = list(dict.fromkeys((one.query, one.query_path) for one in levers.values()))
    ask = jax.jit(lambda *batch: featurizer.ask(kinds, batch))

    def asking(rows: np.ndarray) -> jax.Array:
        batch = ctx.question_inputs.batch(asked, rows[:, None])
        minus = jax.tree.map(lambda leaf: leaf[:, 0], batch.minus)
        return ask(batch.x0, batch.cond, minus, batch.index)

    queries = Features(kinds, list(windows), in_batches(asking, len(asked)))
    table(ctx, levers, trained, queries, asked)


def table(
    ctx: Context,
    levers: Mapping[str, Lever],
    trained: Mapping[str, Features],
    queries: Features,
    asked: Sequence[Question],
) -> None:
    """Print the table: mean over attributes."""
    names = list(queries.windows)
    windows = {"all": names, **({name: [name] for name in names} if len(names) > 1 else {})}
    print("| lever | timesteps | condition | validation | held out | plain product: held out |")
    print("|---|---|---|---|---|---|")
    rows_of = {
        name: [row for row, q in enumerate(asked) if q.attribute == name]
        for name in ctx.config.data.condition_on
    }
    for (name, lever), (window, parts) in product(levers.items(), windows.items()):
        key, kind = (lever.loss, lever.guidance, lever.null), (lever.query, lever.query_path)
        query = queries.of(kind, parts, normalise=lever.normalise)
        for condition in ("named", "unnamed", "label-free"):
            found = []
            for attribute, rows in rows_of.items():
                place = {"named": "named", "unnamed": attribute, "label-free": ""}[condition]
                features = trained[place].of(key, parts, normalise=lever.normalise)
                part = [asked[row] for row in rows]
                found.append(at_dampings(ctx.dataset, part, scores(features, query[rows])))
            best, plain = (np.nanmean([f[i] for f in found], axis=0) for i in (0, 1))
            cells = (f"{value:.2f}" for value in (*best, plain[1]))
            print(f"| {name} | {window} | {condition} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
