"""One question to an existing feature store: which training images taught this?"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ctrak_jax.attribution import QueryBatch, mixtures, query_features
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.inputs.encoder import require_heard
from ctrak_jax.inputs.questions import in_common, read_image
from ctrak_jax.methods import METHODS, GradientSpec
from ctrak_jax.models import Denoiser
from ctrak_jax.prompts import without
from ctrak_jax.run import model_file
from ctrak_jax.run.dampings import read_dampings
from ctrak_jax.run.features import in_memory, ranked, solve
from ctrak_jax.run.questions import Scope
from ctrak_jax.run.variants import MAIN
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.query import sampler
from ctrak_jax.stages.score import load_features


class Asking(NamedTuple):
    """A query image, uint8 [H, W, 3], its condition, for each concept the conditions without it
    [alternative, ...], and whether the image or the model's own samples are meant."""

    image: np.ndarray
    cond: np.ndarray
    minus: Sequence[np.ndarray]
    scope: Scope = "local"


class Answering(NamedTuple):
    """How a question is answered: the method, its query gradient, the damping multiple r and how
    many training images."""

    method: str
    spec: GradientSpec
    damping: float
    top: int


def ask(
    ctx: Context, *, image: Path, condition: str, concept: str, method: str, top: int
) -> dict[str, Any]:
    """The ``top`` training images for one concept (an attribute) of one image.

    Raises:
        UsageError: an unknown attribute, value or method, an unreadable image, a bad ``top``.
    """
    values = _condition(ctx, condition)
    if concept not in values:
        raise UsageError(f"--concept {concept!r} must be one of the condition's {list(values)}.")
    how, inputs = _answering(ctx, method, top, concept), ctx.inputs
    asking = Asking(
        _picture(ctx, image),
        inputs.condition(values, inputs.prompt(values)),
        [ctx.question_inputs.minus_conditions(values, concept)],
    )
    (found,) = _answers(ctx, ctx.load(), asking, how)
    return {
        "method": method,
        "condition": values,
        "concept": {concept: values[concept]},
        "minus": in_common(ctx.question_inputs.alternatives(values, concept), concept),
        "damping": how.damping,
        "top": found,
    }


class PromptAnswer(NamedTuple):
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
) -> PromptAnswer:
    """The ``top`` training images for each concept of a prompt.

    Args:
        concepts: words of the prompt.
        minus: the prompt without each of them; empty for the rule of
            :func:`ctrak_jax.prompts.without`.
        image: what was generated from the prompt; generated from ``image_seed`` where not given.
        scope: ask about that image, or about what the model makes of the prompt as a whole.

    Raises:
        UsageError: no text-to-image model, a concept that is not in the prompt or that the text
            encoder does not know, as many ``minus`` as there are not concepts, an unknown method,
            an unreadable image, a bad ``top``.
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
    how = _answering(ctx, method, top)
    without_each = list(minus) or [without(prompt, concept) for concept in concepts]
    model_file.about(ctx.folder.model)  # says so where there is none yet
    require_heard(ctx.model_source, [(prompt, text) for text in without_each])
    denoiser, inputs = ctx.load(), ctx.inputs
    cond = inputs.condition({}, prompt)
    if image is None:
        picture = sampler(ctx, denoiser)(denoiser.params, cond, np.array([image_seed]))[0]
    else:
        picture = _picture(ctx, image)
    negatives = [inputs.condition({}, text)[None] for text in without_each]
    found = _answers(ctx, denoiser, Asking(picture, cond, negatives, scope), how)
    answers = [
        {"concept": concept, "minus": text, "top": rows}
        for concept, text, rows in zip(concepts, without_each, found, strict=True)
    ]
    about = {"method": method, "scope": scope, "prompt": prompt, "damping": how.damping}
    return PromptAnswer(about | {"concepts": answers}, picture)


def _answering(ctx: Context, method: str, top: int, attribute: str | None = None) -> Answering:
    """Check what is asked for; the damping is the one that ``ctrak score`` chose where it has run,
    else the largest: close to a plain inner product, which a Fisher of few samples cannot spoil."""
    spec = METHODS[method].query if method in METHODS else None
    if spec is None:
        usable = [name for name, m in METHODS.items() if m.query is not None]
        fault = "keeps no features to ask" if method in METHODS else "is not known"
        raise UsageError(f"--method {method!r} {fault}; use one of {usable}.")
    count = len(ctx.dataset.train_index)
    if not 1 <= top <= count:
        raise UsageError(f"--top {top} must be between 1 and the {count} training images.")
    path, damping = ctx.folder.dampings, max(ctx.config.score.damping)
    if path.exists() and method in (chosen := read_dampings(path)):
        damping = chosen[method].of(attribute)
    return Answering(method, spec, damping, top)


def _picture(ctx: Context, image: Path) -> np.ndarray:
    try:
        return read_image(image, ctx.dataset.image_shape)
    except StoreError as error:
        raise UsageError(f"--image {error}") from None


def _answers(
    ctx: Context, denoiser: Denoiser, asking: Asking, how: Answering
) -> list[list[dict[str, Any]]]:
    """The first rows of every concept."""
    network, params, _ = ctx.placed(denoiser)
    x0 = ctx.inputs.encode(asking.image[None])
    index = np.zeros(1, np.int32)
    batch = QueryBatch(x0, asking.cond[None], mixtures([asking.minus]), index)
    step, null = partial(query_features, ctx.query_recipe(asking.scope), network), ctx.inputs.null
    compute = jax.jit(lambda weights, batch: step(weights, [how.spec], batch, null))
    phi = np.asarray(compute(params, batch))[0, :, 0]
    features = in_memory(load_features(ctx, MAIN, how.method))
    solution = solve(features, phi, [how.damping])
    ranking = ranked(features, solution, how.top, keep=False).ranking
    samples, scores = (np.asarray(x)[0].tolist() for x in (ranking.samples, ranking.score))
    return [
        [_row(ctx, rank, *found) for rank, found in enumerate(zip(*one, strict=True), 1)]
        for one in zip(samples, scores, strict=True)
    ]


def _row(ctx: Context, rank: int, row: int, score: float) -> dict[str, Any]:
    index, prompts = int(ctx.dataset.train_index[row]), ctx.dataset.raw.prompts
    found = {
        "rank": rank,
        "index": index,
        "score": score,
        "attributes": ctx.dataset.train_values[row],
    }
    return found | ({"prompt": prompts[index]} if prompts else {})


def _condition(ctx: Context, condition: str) -> dict[str, str]:
    values, conditions = {}, ctx.dataset.conditions
    for part in condition.split(","):
        name, sign, value = part.partition("=")
        if not sign or name not in conditions.attributes:
            raise UsageError(
                f"--condition {condition!r}: expected attribute=value pairs separated by commas, "
                f"with attributes {list(conditions.attributes)}."
            )
        values[name] = value
    conditions.encode(values)
    return values
