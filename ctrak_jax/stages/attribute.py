"""One question to an existing feature store: which training images taught this?"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.methods import METHODS
from ctrak_jax.stages import model
from ctrak_jax.stages.context import Context, read_json
from ctrak_jax.stages.gradients import QueryBatch, query_rows, selected
from ctrak_jax.stages.query import read_image
from ctrak_jax.stages.questions import minus_of
from ctrak_jax.stages.score import held, load_features, ranked, solve
from ctrak_jax.stages.variant import MAIN


def ask(
    ctx: Context, *, image: Path, condition: str, concept: str, method: str, top: int
) -> dict[str, Any]:
    """The ``top`` training images for one concept of one image.

    The damping is the one chosen by ``ctrak score`` where that has run, else the largest:
    close to a plain inner product, which a Fisher of few samples cannot spoil.

    Raises:
        UsageError: an unknown attribute, value or method, an unreadable image, a bad ``top``.
    """
    values = _condition(ctx, condition)
    if concept not in values:
        raise UsageError(f"--concept {concept!r} must be one of the condition's {list(values)}.")
    spec = METHODS[method].query if method in METHODS else None
    if spec is None:
        usable = [name for name, m in METHODS.items() if m.query is not None]
        fault = "keeps no features to ask" if method in METHODS else "is not known"
        raise UsageError(f"--method {method!r} {fault}; use one of {usable}.")
    count = len(ctx.dataset.train_index)
    if not 1 <= top <= count:
        raise UsageError(f"--top {top} must be between 1 and the {count} training images.")
    try:
        asked = read_image(image, ctx.dataset.image_shape)
    except StoreError as error:
        raise UsageError(f"--image {error}") from None
    chosen = selected(ctx, model.load(ctx), MAIN)
    minus = minus_of(ctx, values, concept)
    encode = ctx.conditions.encode
    batch = QueryBatch(
        ctx.inputs.encode(asked[None]),
        encode(values)[None],
        encode(minus)[None, None],
        np.zeros(1, np.int32),
    )
    fn = jax.jit(partial(query_rows, ctx, chosen, [spec], "local"))
    phi = np.asarray(fn(chosen.weights, batch))[0, :, 0]
    features = held(load_features(ctx, MAIN, method))
    multiple = _damping(ctx, method)
    ranking = ranked(features, solve(features, phi, [multiple]), top, keep=False).ranking
    rows, scores = np.asarray(ranking.samples)[0, 0], np.asarray(ranking.score)[0, 0]
    return {
        "method": method,
        "condition": values,
        "concept": {concept: values[concept]},
        "minus": minus,
        "damping": multiple,
        "top": [
            {
                "rank": rank,
                "index": int(ctx.dataset.train_index[row]),
                "score": float(value),
                "attributes": ctx.dataset.train_values[row],
            }
            for rank, (row, value) in enumerate(zip(rows, scores, strict=True), 1)
        ],
    }


def text(answer: dict[str, Any]) -> str:
    """The answer as a small table."""
    lines = [
        f"damping r = {answer['damping']:g}",
        f"{'rank':>4} {'index':>8} {'score':>12}  attributes",
    ]
    for item in answer["top"]:
        values = ", ".join(f"{k}={v}" for k, v in item["attributes"].items())
        lines.append(f"{item['rank']:4d} {item['index']:8d} {item['score']:12.5g}  {values}")
    return "\n".join(lines)


def _condition(ctx: Context, condition: str) -> dict[str, str]:
    values = {}
    for part in condition.split(","):
        name, sign, value = part.partition("=")
        if not sign or name not in ctx.conditions.attributes:
            raise UsageError(
                f"--condition {condition!r}: expected attribute=value pairs separated by commas, "
                f"with attributes {list(ctx.conditions.attributes)}."
            )
        values[name] = value
    ctx.conditions.encode(values)
    return values


def _damping(ctx: Context, method: str) -> float:
    path = ctx.root / "scores" / "damping.json"
    if path.exists():
        choices = read_json(path, "score")
        if method in choices:
            return choices[method]["chosen"]
    return max(ctx.config.score.damping)
