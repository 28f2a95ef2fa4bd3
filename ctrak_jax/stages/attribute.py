"""One question to an existing feature store: which training images taught this?"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ctrak_jax import score
from ctrak_jax.attribution import QueryBatch, mixtures, query_features
from ctrak_jax.config import DataConfig
from ctrak_jax.config.rules import NEEDED_BY, references_of
from ctrak_jax.data.dataset import handling_of
from ctrak_jax.data.decoding import decoded_picture, readable
from ctrak_jax.data.reading import read_bounded
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.inputs.encoder import require_distinct_prompts
from ctrak_jax.inputs.questions import in_common
from ctrak_jax.log import meter
from ctrak_jax.methods import METHODS, GradientSpec
from ctrak_jax.models import Denoiser
from ctrak_jax.prompts import without
from ctrak_jax.run import model_file
from ctrak_jax.run.dampings import read_dampings
from ctrak_jax.run.features import in_memory, ranked, solve
from ctrak_jax.run.questions import Scope
from ctrak_jax.run.variants import MAIN, Variant
from ctrak_jax.stages import references, unnamed
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.query import sampler
from ctrak_jax.stages.score import load_features

ANSWERING = ("gradients", "reference")
"""What answers a question at once."""


class Asking(NamedTuple):
    """A query image, uint8 [H, W, 3], its condition, for each concept its value (None for words)
    and the conditions without it [alternative, ...], and whether the image or the model's own
    samples are meant."""

    image: np.ndarray
    cond: np.ndarray
    concepts: Mapping[str, str | None]
    minus: Sequence[np.ndarray]
    scope: Scope = "local"


class Answering(NamedTuple):
    """How a question is answered: the method, how many training images, the method's query gradient
    and the damping multiple r; a reference has neither. ``variant``: whose features are asked."""

    method: str
    top: int
    spec: GradientSpec | None = None
    damping: float | None = None
    variant: Variant = MAIN

    @property
    def about(self) -> dict[str, Any]:
        """What an answer says of it."""
        return {"method": self.method} | ({"damping": self.damping} if self.damping else {})


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
        read_picture(image, ctx.config.data, ctx.dataset.image_shape),
        inputs.condition(values, inputs.prompt(values)),
        {concept: values[concept]},
        [ctx.question_inputs.minus_conditions(values, concept)],
    )
    (found,) = _answers(ctx, ctx.load(), asking, how)
    return {
        **how.about,
        "condition": values,
        "concept": {concept: values[concept]},
        "minus": in_common(ctx.question_inputs.alternatives(values, concept), concept),
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
    require_distinct_prompts(ctx.model_source, [(prompt, text) for text in without_each])
    denoiser, inputs = ctx.load(), ctx.inputs
    cond = inputs.condition({}, prompt)
    if image is None:
        with meter("picture", 1) as bar:
            picture = sampler(ctx, denoiser)(denoiser.params, cond, np.array([image_seed]))[0]
            bar.advance(1)
    else:
        picture = read_picture(image, ctx.config.data, ctx.dataset.image_shape)
    negatives = [inputs.condition({}, text)[None] for text in without_each]
    asking = Asking(picture, cond, dict.fromkeys(concepts), negatives, scope)
    found = _answers(ctx, denoiser, asking, how)
    answers = [
        {"concept": concept, "minus": text, "top": rows}
        for concept, text, rows in zip(concepts, without_each, found, strict=True)
    ]
    about = {"scope": scope, "prompt": prompt, "concepts": answers}
    return PromptAnswer(how.about | about, picture)


def _answering(ctx: Context, method: str, top: int, attribute: str | None = None) -> Answering:
    """Check what is asked for; the damping is the one that ``ctrak score`` chose where it has run,
    else the largest: close to a plain inner product, which a Fisher of few samples cannot spoil."""
    kind, usable = _kind(method), [name for name in METHODS if _kind(name) in ANSWERING]
    if kind not in ANSWERING:
        fault = "keeps no features to ask" if method in METHODS else "is not known"
        raise UsageError(f"--method {method!r} {fault}; use one of {usable}.")
    count = len(ctx.dataset.train_index)
    if not 1 <= top <= count:
        raise UsageError(f"--top {top} must be between 1 and the {count} training images.")
    if kind == "reference":
        if method not in references_of(ctx.config):
            raise UsageError(f"--method {method!r} needs {NEEDED_BY[method]}.")
        return Answering(method, top)
    path, damping = ctx.folder.dampings, max(ctx.config.score.damping)
    if path.exists() and method in (chosen := read_dampings(path)):
        damping = chosen[method].of(attribute)
    parts = {part.without: part for part in unnamed.answering(ctx, method)}
    variant = parts.get(attribute, MAIN) if attribute else MAIN
    return Answering(method, top, METHODS[method].query, damping, variant)


def _kind(method: str) -> str:
    return METHODS[method].kind if method in METHODS else ""


def read_picture(image: Path, data: DataConfig, shape: tuple[int, int, int]) -> np.ndarray:
    """An image asked about, uint8 of this shape, read as those of the data set are.

    Raises:
        UsageError: unreadable, or of another size.
    """
    how, (height, width, _) = handling_of(data), shape
    try:
        with readable(str(image)):
            picture = decoded_picture(read_bounded(image), how.side, how.background)
    except (UsageError, StoreError) as error:
        raise UsageError(f"--image {error}") from None
    if picture.shape[:2] != (height, width):
        raise UsageError(
            f"--image {image}: is {picture.shape[1]} x {picture.shape[0]} pixels, the model takes "
            f"{width} x {height}; crop and resize it, as data.resize: true would."
        )
    return picture


def _answers(
    ctx: Context, denoiser: Denoiser, asking: Asking, how: Answering
) -> list[list[dict[str, Any]]]:
    """The first rows of every concept."""
    spec, damping = how.spec, how.damping
    if spec is None or damping is None:
        ranking = _by_reference(ctx, asking, how)
    else:
        ranking = _by_features(ctx, denoiser, asking, how, spec, damping)
    samples, scores = (np.asarray(x).tolist() for x in (ranking.samples, ranking.score))
    return [
        [_row(ctx, rank, *found) for rank, found in enumerate(zip(*one, strict=True), 1)]
        for one in zip(samples, scores, strict=True)
    ]


def _by_reference(ctx: Context, asking: Asking, how: Answering) -> score.Ranking:
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
    return score.top_k(found, how.top)


def _by_features(
    ctx: Context,
    denoiser: Denoiser,
    asking: Asking,
    how: Answering,
    spec: GradientSpec,
    damping: float,
) -> score.Ranking:
    network, params, _ = ctx.placed(denoiser)
    x0 = ctx.inputs.encode(asking.image[None])
    index = np.zeros(1, np.int32)
    batch = QueryBatch(x0, asking.cond[None], mixtures([asking.minus]), index)
    step, null = partial(query_features, ctx.query_recipe(asking.scope), network), ctx.inputs.null
    compute = jax.jit(lambda weights, batch: step(weights, [spec], batch, null))
    with meter("gradient of the question", 1) as bar:
        phi = np.asarray(compute(params, batch))[0, :, 0]
        bar.advance(1)
    features = in_memory(load_features(ctx, how.variant, how.method))
    solution = solve(features, phi, [damping])
    with meter("scores", features.rows.n) as bar:
        ranking = ranked(features, solution, how.top, keep=False, advance=bar.advance).ranking
    return score.Ranking(ranking.samples[0], ranking.score[0])


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
