"""Where an answer comes from: the parts of the scores of a question's first training images."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ctrak_jax import devices
from ctrak_jax.attribution import QueryBatch
from ctrak_jax.attribution.explanation import Parts, query_parts, train_parts
from ctrak_jax.errors import UsageError
from ctrak_jax.inputs.batches import TrainSamples
from ctrak_jax.inputs.questions import noise_numbers, read_image
from ctrak_jax.log import meter
from ctrak_jax.methods import METHODS, GradientSpec
from ctrak_jax.models import Denoiser
from ctrak_jax.report.explanation.arrays import Explanation
from ctrak_jax.rewards import ConceptReward, params_of, rated
from ctrak_jax.run.features import TrainingFeatures, solve
from ctrak_jax.run.questions import Question, Scope
from ctrak_jax.run.variants import table_of
from ctrak_jax.stages.ask.question import (
    Answering,
    Asking,
    SolvedRanking,
    ranked_by_features,
)
from ctrak_jax.stages.context import Context


def by_query(ctx: Context, query: str, concept: str | None) -> Asking:
    """A question of the run.

    Args:
        query: the image's id in queries.csv.
        concept: the attribute; None where the image has one question.

    Raises:
        UsageError: no such question, or several.
    """
    questions = ctx.questions()
    rows = [row for row, q in enumerate(questions) if q.query == query]
    if not rows:
        near = ", ".join(dict.fromkeys(q.query for q in questions[:6]))
        raise UsageError(f"--query {query!r} is no image of the run; it has {near}, ...")
    wanted = [row for row in rows if concept in (None, questions[row].attribute)]
    if len(wanted) != 1:
        names = [questions[row].attribute for row in rows]
        got = "has several concepts" if concept is None else f"has no concept {concept!r}"
        raise UsageError(f"--query {query} {got}; give --concept, one of {names}.")
    question = questions[wanted[0]]
    if question.scope == "global":
        raise UsageError(f"--query {query} asks about no image; explain a local question.")
    return by_question(ctx, question, noise_numbers(questions)[wanted[0]])


def by_question(ctx: Context, question: Question, number: int) -> Asking:
    """A local question of the run; ``number`` fixes its noise (:func:`noise_numbers`)."""
    inputs = ctx.question_inputs
    return Asking(
        read_image(inputs.folder / question.image, inputs.image_shape),
        ctx.inputs.condition(question.condition, question.prompt),
        {question.attribute: question.value},
        [inputs.minus_conditions(question.condition, question.attribute)],
        number=number,
        mask=inputs.mask(question) if question.mask else None,
    )


def require_explainable(ctx: Context, method: str, scope: Scope) -> None:
    """Refuse what cannot be taken apart.

    Raises:
        UsageError: the method works by no gradients, or the question is about no image.
    """
    if method in METHODS and METHODS[method].kind != "gradients":
        by_gradients = [name for name in ctx.config.methods if METHODS[name].kind == "gradients"]
        raise UsageError(f"--method {method!r} works by no gradients; use one of {by_gradients}.")
    if scope == "global":
        raise UsageError("an answer about no image cannot be explained; ask with --scope local.")


class BothParts(NamedTuple):
    """The parts of a ranking's scores: of the training images', and of the question's."""

    train: Parts
    query: Parts


class Programs(NamedTuple):
    """Equation (9.2) of training samples and of a question, compiled at their first calls.

    Attributes:
        spec: the training gradient.
        train: (batch, z) -> the parts.
        query: (item, z) -> the parts.
        reward: of the network's samples, which questions are asked with; None for the slider.
    """

    spec: GradientSpec
    train: Callable[..., Parts]
    query: Callable[..., Parts]
    reward: ConceptReward | None


def programs_of(
    ctx: Context, denoiser: Denoiser, how: Answering, reward: ConceptReward | None
) -> Programs:
    """Those of a method, as whose features it ranks by are made."""
    spec, null = table_of(ctx.config, how.variant)[how.method].train, ctx.inputs.null
    assert spec is not None
    assert how.spec is not None
    placed = ctx.placed(denoiser)
    network, weights = placed.network, devices.put_for_one(placed.params, ctx.mesh, placed.specs)
    train = partial(train_parts, ctx.recipe, network, spec=spec, null=null)
    query = partial(query_parts, ctx.query_recipe("local"), network, spec=how.spec, null=null)
    judge = devices.put_for_one(params_of(reward), ctx.mesh, devices.WHOLE)

    @jax.jit
    def of_query(params: Any, judge: Any, item: QueryBatch, z: jax.Array) -> Parts:
        return query(params=params, item=item, z=z, reward=rated(reward, judge))

    of_training = partial(jax.jit(train), params=weights)
    return Programs(spec, of_training, partial(of_query, weights, judge), reward)


@dataclass(frozen=True, kw_only=True)
class Explainer:
    """Takes scores of one method apart, for question after question by the same programs.

    Attributes:
        ctx: the run.
        how: the method, and whose features it ranks by.
        features: those.
        programs: of the method.
    """

    ctx: Context
    how: Answering
    features: TrainingFeatures
    programs: Programs

    def parts(
        self,
        asking: Asking,
        rows: np.ndarray,
        z: np.ndarray,
        own: np.ndarray,
        advance: Callable[[int], object] = lambda count: None,
    ) -> BothParts:
        """The parts of the scores of some training images for a question about one concept.

        Args:
            asking: the question.
            rows: of the training images.
            z: the question's solved feature [proj].
            own: the training images' solved features [sample, proj].
            advance: called with 1 after each of the two.
        """
        spec, of_training, of_query, reward = self.programs
        guided = spec.path == "inversion" and spec.condition == "own"
        train = self._samples.batch(rows, guided=guided)
        image = jax.tree.map(lambda leaf: leaf[0], asking._replace(reward=reward).batch(self.ctx))
        image = image._replace(
            minus=jax.tree.map(lambda leaf: leaf[0], image.minus),
            mask=None if image.mask is None else image.mask[0],
            target=None if image.target is None else image.target[0],
        )
        weights = self.features.weights
        factor = None if weights is None else weights[rows]
        parts = _weighed(of_training(batch=train, z=jnp.asarray(z, jnp.float32)), factor)
        advance(1)
        query = _weighed(of_query(item=image, z=jnp.asarray(own, jnp.float32)), factor)
        advance(1)
        return BothParts(parts, query)

    @cached_property
    def _samples(self) -> TrainSamples:
        return self.ctx.samples(self.how.variant)


def explain(
    ctx: Context,
    denoiser: Denoiser,
    asking: Asking,
    how: Answering,
    answered: SolvedRanking | None = None,
) -> list[Explanation]:
    """Take the first scores of every concept of a question apart.

    Args:
        ctx: the run.
        denoiser: its model.
        asking: the question.
        how: it is answered.
        answered: its ranking; ranked here where not given.

    Raises:
        UsageError: the method works by no gradients, or the question is about no image.
    """
    require_explainable(ctx, how.method, asking.scope)
    assert how.damping is not None
    answered = answered or ranked_by_features(ctx, denoiser, asking, how)
    features, vectors = answered.features, answered.solution.vectors()[0]
    programs = programs_of(ctx, denoiser, how, asking.reward)
    explainer = Explainer(ctx=ctx, how=how, features=features, programs=programs)
    samples, scores = map(np.asarray, answered.ranking)
    index = np.asarray(ctx.candidates(how.variant).train_index)
    times = np.asarray(ctx.recipe.grid.recorded)
    found = []
    with meter("parts of the scores", 2 * len(samples)) as bar:
        for n, (concept, value) in enumerate(asking.concepts.items()):
            rows = samples[n]
            own = solve(features, features_of(features, rows), [how.damping]).vectors()[0]
            one = asking.about(concept)
            parts, query = explainer.parts(one, rows, vectors[n], own, bar.advance)
            layers = tuple(sorted(parts.layers))
            explained = Explanation(
                method=how.method,
                concept=concept,
                value=value or "",
                index=index[rows],
                score=scores[n],
                timesteps=np.tile(times, parts.pixels.shape[1] // len(times)),
                query_timesteps=np.asarray(ctx.query_recipe("local").grid.recorded),
                pixels=np.asarray(parts.pixels),
                query_pixels=np.asarray(query.pixels),
                layers=layers,
                by_layer=np.stack([parts.layers[path] for path in layers], axis=1),
            )
            found.append(explained)
    return found


def features_of(features: TrainingFeatures, rows: np.ndarray) -> np.ndarray:
    """The features of some training images [sample, proj], read block by block."""
    found = np.empty((len(rows), features.rows.k), np.float32)
    for block in features.rows.blocks():
        inside = (rows >= block.rows.start) & (rows < block.rows.stop)
        found[inside] = np.asarray(block.features)[rows[inside] - block.rows.start]
    return found


def _weighed(parts: Parts, factor: np.ndarray | None) -> Parts:
    """On the host; times the weights of the samples, where a method weighs them."""

    def weighed(leaf: jax.Array) -> np.ndarray:
        found = np.asarray(leaf)
        if factor is None:
            return found
        return found * factor.reshape(-1, *(1,) * (found.ndim - 1))

    return jax.tree.map(weighed, parts)
