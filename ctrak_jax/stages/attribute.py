"""One question to an existing feature store: which training images taught this?"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.inputs.encoder import require_heard
from ctrak_jax.methods import METHODS, GradientSpec
from ctrak_jax.prompts import without
from ctrak_jax.run.dampings import read_dampings
from ctrak_jax.run.questions import Scope
from ctrak_jax.stages import model
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.gradients import Selected, selected
from ctrak_jax.stages.query import alternatives, read_image, sampler
from ctrak_jax.stages.query_rows import QueryBatch, query_rows, stacked
from ctrak_jax.stages.questions import in_common, minus_of
from ctrak_jax.stages.score import held, load_features, ranked, solve
from ctrak_jax.stages.variant import MAIN


class Asked(NamedTuple):
    """What is asked of one image, or of all that a condition stands for.

    Attributes:
        image: uint8 [H, W, 3]. cond: its condition. minus: for each concept the conditions without
            it [alternative, ...].
    """

    image: np.ndarray
    cond: np.ndarray
    minus: Sequence[np.ndarray]


def ask(
    ctx: Context, *, image: Path, condition: str, concept: str, method: str, top: int
) -> dict[str, Any]:
    """The ``top`` training images for one concept of one image.

    Raises:
        UsageError: an unknown attribute, value or method, an unreadable image, a bad ``top``.
    """
    values = _condition(ctx, condition)
    if concept not in values:
        raise UsageError(f"--concept {concept!r} must be one of the condition's {list(values)}.")
    spec = _checked(ctx, method, top)
    inputs = ctx.inputs
    asked = Asked(
        _picture(ctx, image),
        inputs.condition(values, inputs.prompt(values)),
        [alternatives(ctx, values, concept)],
    )
    chosen = selected(ctx, model.load(ctx), MAIN)
    damping = _damping(ctx, method, concept)
    (found,) = _answers(ctx, chosen, spec, method, "local", asked, damping, top)
    return {
        "method": method,
        "condition": values,
        "concept": {concept: values[concept]},
        "minus": in_common(minus_of(ctx, values, concept), concept),
        "damping": damping,
        "top": found,
    }


class Answer(NamedTuple):
    """What the command prints, and the picture that was asked about."""

    found: dict[str, Any]
    picture: np.ndarray


def ask_prompt(
    ctx: Context,
    *,
    prompt: str,
    concepts: Sequence[str],
    minus: Sequence[str],
    image: Path | None,
    image_seed: int,
    scope: Scope,
    method: str,
    top: int,
) -> Answer:
    """The ``top`` training images for each concept of a prompt.

    Args:
        concepts: words of the prompt. minus: the prompt without each of them; empty for the rule
            of :func:`ctrak_jax.prompts.without`. image: what was generated from the prompt;
            generated here from ``image_seed`` where it is not given.
        scope: ask about that image, or about what the model makes of the prompt as a whole.

    Raises:
        UsageError: no text-to-image model, a concept that is not in the prompt or of which the
            text encoder does not hear, as many ``minus`` as there are not concepts, an unknown
            method, an unreadable image, a bad ``top``.
    """
    if ctx.config.model.kind != "text-to-image":
        raise UsageError(
            "--prompt needs a text-to-image model (model.kind); ask this one by --condition and "
            "--concept."
        )
    if minus and len(minus) != len(concepts):
        raise UsageError(
            f"--minus has {len(minus)} prompts for {len(concepts)} concepts; give one each, or "
            "none to have the concept's words left out."
        )
    spec = _checked(ctx, method, top)
    without_each = list(minus) or [without(prompt, concept) for concept in concepts]
    model.about(ctx.root / "model")  # says so where there is none yet
    require_heard(ctx.model_folder, [(prompt, text) for text in without_each])
    denoiser, inputs = model.load(ctx), ctx.inputs
    cond = inputs.condition({}, prompt)
    if image is None:
        picture = sampler(ctx, denoiser)(denoiser.params, cond, np.array([image_seed]))[0]
    else:
        picture = _picture(ctx, image)
    asked = Asked(picture, cond, [inputs.condition({}, text)[None] for text in without_each])
    damping, chosen = _damping(ctx, method), selected(ctx, denoiser, MAIN)
    found = _answers(ctx, chosen, spec, method, scope, asked, damping, top)
    answers = [
        {"concept": concept, "minus": told, "top": rows}
        for concept, told, rows in zip(concepts, without_each, found, strict=True)
    ]
    about = {"method": method, "scope": scope, "prompt": prompt, "damping": damping}
    return Answer(about | {"concepts": answers}, picture)


def text(answer: Mapping[str, Any]) -> str:
    """The answer as a small table, or as one for each concept."""
    if "concepts" not in answer:
        return "\n".join([f"damping r = {answer['damping']:g}", *_table(answer["top"])])
    lines = [f"prompt   {answer['prompt']}", f"damping r = {answer['damping']:g}"]
    for one in answer["concepts"]:
        lines += ["", f"concept  {one['concept']}", f"without  {one['minus'] or '(no words)'}"]
        lines += _table(one["top"])
    return "\n".join(lines)


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [f"{'rank':>4} {'index':>8} {'score':>12}  image"]
    for item in rows:
        said = item.get("prompt") or ", ".join(f"{k}={v}" for k, v in item["attributes"].items())
        lines.append(f"{item['rank']:4d} {item['index']:8d} {item['score']:12.5g}  {said}")
    return lines


def _checked(ctx: Context, method: str, top: int) -> GradientSpec:
    """The query gradient of a method."""
    spec = METHODS[method].query if method in METHODS else None
    if spec is None:
        usable = [name for name, m in METHODS.items() if m.query is not None]
        fault = "keeps no features to ask" if method in METHODS else "is not known"
        raise UsageError(f"--method {method!r} {fault}; use one of {usable}.")
    count = len(ctx.dataset.train_index)
    if not 1 <= top <= count:
        raise UsageError(f"--top {top} must be between 1 and the {count} training images.")
    return spec


def _picture(ctx: Context, image: Path) -> np.ndarray:
    try:
        return read_image(image, ctx.dataset.image_shape)
    except StoreError as error:
        raise UsageError(f"--image {error}") from None


def _answers(
    ctx: Context,
    chosen: Selected,
    spec: GradientSpec,
    method: str,
    scope: Scope,
    asked: Asked,
    damping: float,
    top: int,
) -> list[list[dict[str, Any]]]:
    """The first rows of every concept."""
    x0 = ctx.inputs.encode(asked.image[None])
    batch = QueryBatch(x0, asked.cond[None], stacked([asked.minus]), np.zeros(1, np.int32))
    fn = jax.jit(partial(query_rows, ctx, chosen, [spec], scope, ctx.inputs.null))
    phi = np.asarray(fn(chosen.weights, batch))[0, :, 0]
    features = held(load_features(ctx, MAIN, method))
    ranking = ranked(features, solve(features, phi, [damping]), top, keep=False).ranking
    samples, scores = np.asarray(ranking.samples)[0], np.asarray(ranking.score)[0]
    return [
        [
            _row(ctx, rank, row, value)
            for rank, (row, value) in enumerate(zip(*found, strict=True), 1)
        ]
        for found in zip(samples, scores, strict=True)
    ]


def _row(ctx: Context, rank: int, row: int, score: float) -> dict[str, Any]:
    index = int(ctx.dataset.train_index[row])
    found = {
        "rank": rank,
        "index": index,
        "score": float(score),
        "attributes": ctx.dataset.train_values[row],
    }
    prompts = ctx.dataset.raw.prompts
    return found | ({"prompt": prompts[index]} if prompts else {})


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


def _damping(ctx: Context, method: str, attribute: str | None = None) -> float:
    """The damping that ``ctrak score`` chose where it has run, else the largest: close to a plain
    inner product, which a Fisher of few samples cannot spoil."""
    path = ctx.root / "scores" / "damping.json"
    if path.exists():
        dampings = read_dampings(path)
        if method in dampings:
            return dampings[method].of(attribute)
    return max(ctx.config.score.damping)
