"""Where an answer comes from: the parts of the scores of a question's first training images."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ctrak_jax import devices
from ctrak_jax.attribution.explanation import Parts, query_parts, train_parts
from ctrak_jax.errors import UsageError
from ctrak_jax.inputs.questions import noise_numbers, read_image
from ctrak_jax.log import meter
from ctrak_jax.methods import METHODS
from ctrak_jax.models import Denoiser
from ctrak_jax.report.explanation.arrays import Explanation
from ctrak_jax.run.features import TrainingFeatures, ranked, solve
from ctrak_jax.run.variants import table_of
from ctrak_jax.stages.ask.question import Answering, Asking, solved
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
    inputs = ctx.question_inputs
    return Asking(
        read_image(inputs.folder / question.image, inputs.image_shape),
        ctx.inputs.condition(question.condition, question.prompt),
        {question.attribute: question.value},
        [inputs.minus_conditions(question.condition, question.attribute)],
        number=noise_numbers(questions)[rows[0]],
        mask=inputs.mask(question) if question.mask else None,
    )


def explain(ctx: Context, denoiser: Denoiser, asking: Asking, how: Answering) -> Explanation:
    """Rank for the one concept of a question, and take the first scores apart.

    Raises:
        UsageError: the method works by no gradients, or the question is about no image.
    """
    spec = table_of(ctx.config, how.variant)[how.method].train
    if spec is None or how.spec is None or how.damping is None:
        by_gradients = [name for name in ctx.config.methods if METHODS[name].kind == "gradients"]
        raise UsageError(
            f"--method {how.method!r} works by no gradients; use one of {by_gradients}."
        )
    if asking.scope == "global":
        raise UsageError("an answer about no image cannot be explained; ask with --scope local.")
    ((concept, value),) = asking.concepts.items()
    features, solution = solved(
        ctx, denoiser, asking, how.variant, how.method, how.spec, how.damping
    )
    with meter("scores", features.rows.n) as bar:
        found = ranked(features, solution, how.top, keep=False, advance=bar.advance).ranking
    rows, score = np.asarray(found.samples)[0, 0], np.asarray(found.score)[0, 0]

    placed, null = ctx.placed(denoiser), ctx.inputs.null
    network, weights = placed.network, devices.put_for_one(placed.params, ctx.mesh, placed.specs)
    recipe, query_recipe = ctx.recipe, ctx.query_recipe("local")
    of_training = jax.jit(partial(train_parts, recipe, network, spec=spec, null=null))
    of_query = jax.jit(partial(query_parts, query_recipe, network, spec=how.spec, null=null))

    z = jnp.asarray(solution.vectors()[0, 0], jnp.float32)
    own = solve(features, features_of(features, rows), [how.damping])
    others = jnp.asarray(own.vectors()[0], jnp.float32)
    guided = spec.path == "inversion" and spec.condition == "own"
    train = ctx.samples(how.variant).batch(rows, guided=guided)
    image = jax.tree.map(lambda leaf: leaf[0], asking.batch(ctx))
    image = image._replace(
        minus=jax.tree.map(lambda leaf: leaf[0], image.minus),
        mask=None if image.mask is None else image.mask[0],
    )
    factor = None if features.weights is None else features.weights[rows]
    with meter("parts of the scores", 2) as bar:
        parts = _weighed(of_training(params=weights, batch=train, z=z), factor)
        bar.advance(1)
        query = _weighed(of_query(params=weights, item=image, z=others), factor)
        bar.advance(1)

    times = np.asarray(recipe.grid.recorded)
    layers = tuple(sorted(parts.layers))
    return Explanation(
        method=how.method,
        concept=concept,
        value=value or "",
        index=np.asarray(ctx.candidates(how.variant).train_index)[rows],
        score=score,
        timesteps=np.tile(times, parts.pixels.shape[1] // len(times)),
        query_timesteps=np.asarray(query_recipe.grid.recorded),
        pixels=np.asarray(parts.pixels),
        query_pixels=np.asarray(query.pixels),
        layers=layers,
        by_layer=np.stack([parts.layers[path] for path in layers], axis=1),
    )


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
