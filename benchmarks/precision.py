"""What fewer digits in products do to features and rankings: an accelerator's, emulated.

    python -m benchmarks.precision RUN [--candidates 300] [--images 20] [--only WORD ...]

RUN is a finished run of one training seed with local questions. Part of it is featurized anew: once
as this machine computes, and once per setting with the levels that the policy of a backend gives
(:mod:`ctrak_jax.precision`). The traced program is walked through, and the float32 operands of
every product are rounded as its level says; sums stay float32. Rankings are those of the run's
candidates for the attribute asked about, which no candidate's condition names.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import jax
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from benchmarks.levers import DAMPINGS, scores
from ctrak_jax import config, devices, pipeline
from ctrak_jax.attribution import query_features, train_features
from ctrak_jax.bench.accelerator.measuring import apart
from ctrak_jax.inputs.batches import train_samples
from ctrak_jax.inputs.questions import by_image
from ctrak_jax.methods import METHODS, GradientSpec, concept_trak
from ctrak_jax.precision import GIVEN, MEANINGS, MatmulPolicy, policy_of
from ctrak_jax.stages.context import Context
from ctrak_jax.typing import Array

BATCH = 20
DEPTH = 10
SHOWN = (1.0, 1e3, 1e5)
"""Dampings of the rankings."""
TRAIN = {
    "concept-trak": concept_trak("forward", "own").train,
    "guided inversion": concept_trak("inversion", "own").train,
    "d-trak": METHODS["d-trak"].train,
}
QUERY = {
    "concept-trak": METHODS["concept-trak"].query,
    "guided inversion": METHODS["concept-trak"].query,
    "d-trak": METHODS["d-trak"].query,
}
MANTISSA = {"TF32": 10, "1 bfloat16 pass": 7}
CALLS = ("jit", "pjit", "closed_call", "checkpoint", "custom_jvp_call", "custom_vjp_call")


class Setting(NamedTuple):
    """A backend whose levels are emulated, the levels of its products and ``model.dtype``."""

    backend: str
    policy: MatmulPolicy
    dtype: str = "float32"


SETTINGS = {
    "GPU, default": Setting("gpu", policy_of("default", "gpu")),
    "GPU, high": Setting("gpu", policy_of("high", "gpu")),
    "TPU, default": Setting("tpu", policy_of("default", "tpu")),
    "TPU, high": Setting("tpu", policy_of("high", "tpu")),
    "TPU, gradients in one pass": Setting("tpu", MatmulPolicy("default", "high")),
    "TPU, one pass throughout": Setting("tpu", MatmulPolicy("default", "default")),
    "GPU, default, dtype bfloat16": Setting("gpu", policy_of("default", "gpu"), "bfloat16"),
    "TPU, default, dtype bfloat16": Setting("tpu", policy_of("default", "tpu"), "bfloat16"),
}


def rounded(x: Array, mantissa: int) -> Array:
    """To the nearest number of float32's range with so many bits after the first."""
    return lax.reduce_precision(x, 8, mantissa)


def product(equation: Any, backend: str, x: Array, y: Array) -> Array:
    """A product of matrices or a convolution with the digits of its level on a backend."""
    given = equation.params["precision"]
    level = "default" if given is None else given[0].name.lower()
    meaning = MEANINGS[backend][level]
    compute = partial(equation.primitive.bind, **equation.params)
    if meaning in MANTISSA:
        return compute(*(rounded(a, MANTISSA[meaning]) for a in (x, y)))
    if meaning != "3 bfloat16 passes":
        return compute(x, y)
    (high_x, low_x), (high_y, low_y) = ((h := rounded(a, 7), rounded(a - h, 7)) for a in (x, y))
    return compute(high_x, high_y) + (compute(high_x, low_y) + compute(low_x, high_y))


def evaluate(jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any], backend: str) -> list[Any]:
    """A traced function's results, its float32 products by :func:`product`."""
    known: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    known |= zip(jaxpr.invars, args, strict=True)

    def value(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        found = _result(equation, [value(v) for v in equation.invars], backend)
        known |= zip(equation.outvars, found, strict=True)
    return [value(v) for v in jaxpr.outvars]


def _result(equation: Any, values: list[Any], backend: str) -> Sequence[Any]:
    name, params = equation.primitive.name, equation.params
    if name in ("dot_general", "conv_general_dilated"):
        exact = any(v.aval.dtype != np.float32 for v in equation.invars)
        if not exact:
            return [product(equation, backend, *values)]
    if name in CALLS:
        inner = params.get("jaxpr", params.get("call_jaxpr"))
        closed = inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())
        return evaluate(closed.jaxpr, closed.consts, values, backend)
    for key, given in params.items():
        several = given if isinstance(given, tuple) else (given,)
        if several and all(isinstance(one, ClosedJaxpr) for one in several):
            again = tuple(_rewritten(one, backend) for one in several)
            params = params | {key: again if isinstance(given, tuple) else again[0]}
    found = equation.primitive.bind(*values, **params)
    return found if equation.primitive.multiple_results else [found]


def _rewritten(closed: ClosedJaxpr, backend: str) -> ClosedJaxpr:
    """The body of a loop or branch."""
    step = partial(evaluate, closed.jaxpr, closed.consts, backend=backend)
    return jax.make_jaxpr(lambda *args: step(args))(*closed.in_avals)


def emulated(fn: Callable[..., Any], backend: str) -> Callable[..., Any]:
    """``fn`` with the products of a backend."""

    def run(*args: Any) -> Any:
        closed, shape = jax.make_jaxpr(fn, return_shape=True)(*args)
        found = evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(args), backend)
        return jax.tree.unflatten(jax.tree.structure(shape), found)

    return jax.jit(run)


class Part(NamedTuple):
    """Features of a part of a run.

    Attributes:
        train: attribute -> method -> [sample, proj].
        query: method -> [image, attribute, proj].
    """

    train: dict[str, dict[str, np.ndarray]]
    query: dict[str, np.ndarray]


def featurized(run: Path, setting: Setting, candidates: int, images: int) -> Part:
    """The first candidates without every attribute, and the first report questions."""
    changed = {"data.candidates": candidates, "model.dtype": setting.dtype}
    settings = config.load(run / "config.yaml", {k: str(v) for k, v in changed.items()})
    with patch("ctrak_jax.stages.context.policy_of", lambda _: setting.policy):
        ctx = pipeline.prepare(settings, run)[0]
        network, params, _ = ctx.placed(ctx.load())
    specs: list[GradientSpec] = [spec for spec in TRAIN.values() if spec]
    features = partial(train_features, ctx.recipe, network)
    compute = emulated(lambda p, batch: features(p, specs, batch).features, setting.backend)
    train = {}
    for name in ctx.config.data.condition_on:
        data = ctx.dataset.without(name)
        samples = train_samples(ctx.inputs_of(data), data.train_index)
        step = lambda rows, s=samples: compute(params, s.batch(s.rows[rows]))  # noqa: E731
        rows = _in_batches(step, len(samples.rows))
        train[name] = {method: rows[:, i] for i, method in enumerate(TRAIN)}
    return Part(train, _asked(ctx, network, params, setting.backend, images))


def _asked(ctx: Context, network: Any, params: Any, backend: str, images: int) -> dict[str, Any]:
    asked = ctx.questions()
    report = [i for i, q in enumerate(asked) if (q.scope, q.split) == ("local", "report")]
    groups = by_image(asked, report)
    groups = np.array(groups[:: max(len(groups) // images, 1)][:images])
    specs: list[GradientSpec] = [spec for spec in dict.fromkeys(QUERY.values()) if spec]
    step, null = partial(query_features, ctx.query_recipe("local"), network), ctx.inputs.null
    compute = emulated(lambda p, batch: step(p, specs, batch, null), backend)
    batch = lambda rows: ctx.question_inputs.batch(asked, groups[rows])  # noqa: E731
    found = _in_batches(lambda rows: compute(params, batch(rows)), len(groups))
    return {method: found[:, :, specs.index(spec)] for method, spec in QUERY.items() if spec}


def _in_batches(step: Callable[[np.ndarray], Any], count: int) -> np.ndarray:
    parts = []
    for first in range(0, count, BATCH):
        rows = np.arange(first, min(first + BATCH, count))
        parts.append(np.asarray(step(devices.padded(rows, BATCH)))[: len(rows)])
    return np.concatenate(parts)


def tops(part: Part, method: str) -> np.ndarray:
    """The best candidates of every question: their sets [damping, question, rank], sorted."""
    wanted = [DAMPINGS.index(r) for r in SHOWN]
    found = []
    for place, rows in enumerate(part.train.values()):
        queries = part.query[method][:, place].astype(np.float64)
        every = scores(rows[method].astype(np.float64), queries)[wanted]
        found.append(np.argsort(-every, axis=-1, kind="stable")[..., :DEPTH])
    return np.sort(np.concatenate(found, axis=1), axis=-1)


def main() -> None:
    """One line of a Markdown table per setting and method."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--candidates", type=int, default=300)
    parser.add_argument("--images", type=int, default=20, help="each asks about every attribute")
    parser.add_argument("--only", nargs="*", choices=list(SETTINGS), default=list(SETTINGS))
    asked = parser.parse_args()
    truth = featurized(asked.run, Setting("cpu", GIVEN), asked.candidates, asked.images)
    print("| setting | method | 1 - cosine | of questions |", end="")
    print("".join(f" same ten, r = {r:g} | same of ten |" for r in SHOWN))
    print("|---|---|---|---|" + "---|---|" * len(SHOWN))
    for name in asked.only:
        part = featurized(asked.run, SETTINGS[name], asked.candidates, asked.images)
        for method in TRAIN:
            train, query = (
                max(apart(a, b)["one_minus_cosine"] for a, b in pairs)
                for pairs in (
                    [(part.train[at][method], rows[method]) for at, rows in truth.train.items()],
                    [(a, b) for a, b in zip(part.query[method], truth.query[method], strict=True)],
                )
            )
            cells = []
            for ours, theirs in zip(tops(part, method), tops(truth, method), strict=True):
                shared = [
                    len({*a} & {*b}) for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)
                ]
                cells += [f"{np.mean(np.equal(shared, DEPTH)):.0%}", f"{np.mean(shared):.2f}"]
            print(f"| {name} | {method} | {train:.1e} | {query:.1e} | {' | '.join(cells)} |")
    images, attributes = truth.query["concept-trak"].shape[:2]
    count = len(next(iter(truth.train.values()))["concept-trak"])
    print(f"{count} candidates, {images * attributes} questions.")


if __name__ == "__main__":
    main()
