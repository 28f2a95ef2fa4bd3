"""One question to an existing feature store: which training images taught this?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ctrak_jax import score
from ctrak_jax.errors import UsageError
from ctrak_jax.inputs.questions import in_common
from ctrak_jax.models import Denoiser
from ctrak_jax.run.questions import Scope
from ctrak_jax.stages import references
from ctrak_jax.stages.ask.question import (
    Answering,
    Asking,
    SolvedRanking,
    answering,
    by_attribute,
    by_prompt,
    judged,
    masked,
    negative_prompts,
    ranked_by_features,
    values_of,
    without_condition,
)
from ctrak_jax.stages.context import Context


class AttributedAnswer(NamedTuple):
    """What the command prints, what was asked, and what explains it.

    Attributes:
        found: the answer.
        asking: the question, one concept or several.
        how: it was answered.
        denoiser: the model that was asked.
        solved: the ranking with what it came from; None of a reference.
        compared: scores [concept, sample] of a reference; None of a method by gradients.
    """

    found: dict[str, Any]
    asking: Asking
    how: Answering
    denoiser: Denoiser
    solved: SolvedRanking | None
    compared: np.ndarray | None = None


class _Scored(NamedTuple):
    """What was ranked by features, or the scores of a reference, and the first rows of every
    concept."""

    solved: SolvedRanking | None
    compared: np.ndarray | None
    rows: list[list[dict[str, Any]]]


def ask(
    ctx: Context,
    *,
    image: Path,
    mask: Path | None = None,
    condition: str | None,
    concept: str,
    method: str,
    top: int,
) -> AttributedAnswer:
    """The ``top`` training images for one concept (an attribute) of one image, or of the part of it
    that a mask leaves; by a reward also of an image of no known condition.

    Raises:
        UsageError: an unknown attribute, value or method, an unreadable image or mask, a reward
            that cannot be asked with, a bad ``top``.
    """
    if condition is None:
        how, asking = answering(ctx, method, top), without_condition(ctx, image, concept)
        about: dict[str, Any] = {"condition": {}, "concept": concept, "minus": {}}
    else:
        values = values_of(ctx, condition, concept)
        how = answering(ctx, method, top, concept)
        asking = by_attribute(ctx, image, values, concept)
        minus = in_common(ctx.question_inputs.alternatives(values, concept), concept)
        about = {"condition": values, "concept": {concept: values[concept]}, "minus": minus}
    if mask is not None:
        asking = masked(asking, mask, how)
    asking = judged(ctx, asking, how)  # refuses a reward before the model is read
    denoiser = ctx.load()
    solved, compared, (rows,) = _answers(ctx, denoiser, asking, how)
    if how.by_reward:
        about["minus"], about["reward"] = {}, ctx.config.query.reward
    found = {**how.about, **about, "top": rows}
    return AttributedAnswer(found, asking, how, denoiser, solved, compared)


def ask_prompt(
    ctx: Context,
    *,
    prompt: str,
    concepts: Sequence[str],
    minus: Sequence[str],
    image: Path | None,
    image_seed: int,
    mask: Path | None = None,
    scope: Scope,
    method: str,
    top: int,
) -> AttributedAnswer:
    """The ``top`` training images for each concept of a prompt.

    Args:
        concepts: words of the prompt.
        minus: the prompt without each of them; empty for the rule of
            :func:`ctrak_jax.prompts.without`.
        image: what was generated from the prompt; generated from ``image_seed`` where not given.
        mask: white where the image is asked about; None for all of it.
        scope: ask about that image, or about what the model makes of the prompt as a whole.

    Raises:
        UsageError: no text-to-image model, a concept that is not in the prompt or that the text
            encoder does not know, as many ``minus`` as there are not concepts, an unknown method,
            an unreadable image or mask, a bad ``top``.
    """
    how = answering(ctx, method, top)
    without_each = negative_prompts(ctx, prompt, concepts, minus, how)
    denoiser = ctx.load()
    asking = by_prompt(
        ctx, denoiser, prompt, dict(zip(concepts, without_each, strict=True)), image, image_seed
    )
    asking = asking._replace(scope=scope)
    if mask is not None:
        asking = masked(asking, mask, how)
    asking = judged(ctx, asking, how)
    solved, compared, found = _answers(ctx, denoiser, asking, how)
    answers = [
        {"concept": concept, "minus": text, "top": rows}
        for concept, text, rows in zip(concepts, without_each, found, strict=True)
    ]
    about = {"scope": scope, "prompt": prompt, "concepts": answers}
    if how.by_reward:
        about["reward"] = ctx.config.query.reward
    return AttributedAnswer(how.about | about, asking, how, denoiser, solved, compared)


def _answers(ctx: Context, denoiser: Denoiser, asking: Asking, how: Answering) -> _Scored:
    solved, compared = None, None
    if how.spec is None:
        compared = _by_reference(ctx, asking, how)
        ranking = score.top_k(compared, how.top)
    else:
        solved = ranked_by_features(ctx, denoiser, asking, how)
        ranking = solved.ranking
    samples, scores = (np.asarray(x).tolist() for x in (ranking.samples, ranking.score))
    rows = [
        [_row(ctx, rank, *found) for rank, found in enumerate(zip(*one, strict=True), 1)]
        for one in zip(samples, scores, strict=True)
    ]
    return _Scored(solved, compared, rows)


def _by_reference(ctx: Context, asking: Asking, how: Answering) -> np.ndarray:
    image = asking.image if asking.scope == "local" else None
    subjects = [
        references.ReferenceQuestion("asked", concept, value, asking.cond, image)
        for concept, value in asking.concepts.items()
    ]
    found = references.scores(ctx, ctx.samples(), how.method, subjects)
    if np.isnan(found).any():
        raise UsageError(
            f"--method {how.method!r} compares pictures and answers no global question; ask with "
            "--scope local, or use similarity-text."
        )
    return found


def _row(ctx: Context, rank: int, row: int, score: float) -> dict[str, Any]:
    index, prompts = int(ctx.dataset.train_index[row]), ctx.dataset.raw.prompts
    found = {
        "rank": rank,
        "index": index,
        "score": score,
        "attributes": ctx.dataset.train_values[row],
    }
    return found | ({"prompt": prompts[index]} if prompts else {})
