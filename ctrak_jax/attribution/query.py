"""Features of questions: one image and the concepts in it (method.md, section 3)."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ctrak_jax.attribution.conditions import stacked
from ctrak_jax.attribution.gradients import Term, gradients_of, loss_of, project_together
from ctrak_jax.attribution.network import Network, Predictions, Weights
from ctrak_jax.attribution.recipe import QueryRecipe, guidance_of
from ctrak_jax.methods import GradientSpec
from ctrak_jax.reward import Mixture, contrast_of, within
from ctrak_jax.trajectory import Path, forward_path, invert, sample
from ctrak_jax.typing import Array, Cond, EpsFn, Image, Params, PRNGKey, TargetReward


class QueryBatch(NamedTuple):
    """Query images and the concepts asked about in each.

    Attributes:
        x0: the images [image, ...] (unused in global scope).
        cond: their conditions [image, ...].
        minus: the conditions without each concept: mixtures [image, concept, alternative, ...].
        index: numbers that fix their noise [image].
        mask: the part of the image that each concept is asked about, 1 inside and 0 outside
            [image, concept, height, width] at the resolution of ``x0``; None for all of it. It
            restricts the gradients that know the concept alone, which have a target shift.
        target: what tells a reward each concept [image, concept, ...]; None without a reward.
        noise: what the images were generated from [image, ...], for a recipe that samples them
            again.
    """

    x0: Any
    cond: Any
    minus: Mixture
    index: Any
    mask: Any = None
    target: Any = None
    noise: Any = None

    @property
    def concepts(self) -> "ConceptQuestion":
        """What is asked about, of an image or of several."""
        return ConceptQuestion(self.minus, self.mask, self.target)


class ConceptQuestion(NamedTuple):
    """A concept that is asked about: ``minus``, ``mask`` and ``target`` of :class:`QueryBatch`."""

    minus: Any
    mask: Any = None
    target: Any = None


ONE_TIMESTEP = 2**16
"""The random stream of a member's timestep, apart from those of its path."""


def mixtures(groups: Sequence[Sequence[Cond]]) -> Mixture:
    """The alternatives of every concept of every image, each counting alike, side by side: where
    there are fewer than the most, the first comes again with no weight.

    Args:
        groups: [image, concept] of conditions, whose arrays are [alternative, ...].
    """
    counts = [[len(jax.tree.leaves(found)[0]) for found in group] for group in groups]
    most = max(map(max, counts))

    def filled(found: Array) -> np.ndarray:
        return np.concatenate([found, np.repeat(found[:1], most - len(found), axis=0)])

    def weights(count: int) -> np.ndarray:
        return np.where(np.arange(most) < count, np.float32(1.0 / count), np.float32(0.0))

    return Mixture(
        stacked([stacked([jax.tree.map(filled, found) for found in group]) for group in groups]),
        np.array([[weights(count) for count in group] for group in counts]),
    )


class Member(NamedTuple):
    """One draw of a query: an image and its states by path."""

    x0: Image
    paths: dict[str, Path]


def member_key(recipe: QueryRecipe, item: QueryBatch, number: Array) -> PRNGKey:
    """What fixes the random numbers of one member of a question."""
    key = jax.random.fold_in(jax.random.key(recipe.seed), item.index)
    return jax.random.fold_in(key, number)


def query_member(
    recipe: QueryRecipe,
    eps_fn: EpsFn,
    params: Params,
    item: QueryBatch,
    null: Cond,
    key: PRNGKey,
) -> Member:
    """One repetition of a local query, or one sampling trajectory of a global one (method.md,
    section 3), by a prediction of full precision."""
    schedule, grid = recipe.schedule, recipe.grid
    path_key, noise_key = jax.random.split(key)
    guidance = guidance_of(recipe.guidance, null)
    if recipe.scope == "global":
        noise = jax.random.normal(noise_key, item.x0.shape)
        drawn = sample(eps_fn, params, schedule, grid, noise, item.cond, guidance=guidance)
        x0, inversion = drawn.x0, drawn.path
    elif recipe.path == "resample":
        x0 = item.x0
        inversion = sample(
            eps_fn,
            params,
            schedule,
            grid,
            item.noise,
            item.cond,
            guidance=guidance,
            eta=recipe.eta,
            key=path_key,
        ).path
    else:
        x0 = item.x0
        inversion = invert(
            eps_fn,
            params,
            schedule,
            grid,
            x0,
            item.cond,
            guidance=guidance,
            eta=recipe.eta,
            key=path_key,
        )
    forward = forward_path(schedule, x0, grid.recorded, noise_key)
    paths = {"forward": forward, "inversion": inversion}
    if recipe.timesteps == "one":
        drawn_by = jax.random.fold_in(key, ONE_TIMESTEP)
        place = jax.random.randint(drawn_by, (), 0, len(grid.recorded))
        paths = {name: Path(p.x[place][None], p.t[place][None]) for name, p in paths.items()}
    return Member(x0, paths)


def query_terms(
    recipe: QueryRecipe,
    network: Network,
    functions: Predictions,
    chosen: dict[str, Any],
    member: Member,
    cond: Cond,
    asked: ConceptQuestion,
    specs: Sequence[GradientSpec],
    reward: TargetReward | None = None,
) -> dict[GradientSpec, Term]:
    """What the gradients of one member of a question are taken of."""
    contrast = None
    if network.mixed:
        contrast = contrast_of(functions.exact_fn, chosen, cond, asked.minus)
    rated = None if reward is None else lambda x0_hat: reward(x0_hat, asked.target)

    def term(spec: GradientSpec) -> Term:
        x0, path = member.x0, member.paths[spec.path]
        loss = loss_of(spec.loss, recipe.schedule, x0, asked.minus, recipe.scale, contrast, rated)
        if asked.mask is not None and spec.knows_concept:
            loss = within(loss, asked.mask)
        return Term(loss, path, cond)

    return {spec: term(spec) for spec in specs}


def query_features(
    recipe: QueryRecipe,
    network: Network,
    params: Weights,
    specs: Sequence[GradientSpec],
    batch: QueryBatch,
    null: Cond | None = None,
    reward: TargetReward | None = None,
) -> Float[Array, "image concept spec proj"]:
    """Features of a batch of queries: mean over members of the gradient summed over time.

    Only the slider and a reward know the concept; every other gradient is one for all concepts of
    an image.

    Args:
        recipe: schedule, grid, projection, scope and members.
        network: the noise prediction of one sample.
        params: its parameters.
        specs: the query gradients, such as ``METHODS["concept-trak"].query``.
        batch: the images and concepts.
        null: the condition that guidance is against, where there is guidance.
        reward: of what the network sees, told the concept by ``batch.target``; for the gradients
            whose loss is ``reward``.

    Raises:
        ValueError: there is such a gradient, and no reward.
    """
    shared = [spec for spec in specs if not spec.knows_concept]
    by_concept = [spec for spec in specs if spec.knows_concept]
    chosen, functions = params.chosen, network.given(params.others)

    def one(item: QueryBatch) -> dict[GradientSpec, Any]:
        def gradients(number: Array) -> dict[GradientSpec, Any]:
            key = member_key(recipe, item, number)
            member = query_member(recipe, functions.exact_fn, chosen, item, null, key)

            def of(
                wanted: Sequence[GradientSpec], asked: ConceptQuestion
            ) -> dict[GradientSpec, Any]:
                terms = query_terms(
                    recipe, network, functions, chosen, member, item.cond, asked, wanted, reward
                )
                return gradients_of(
                    functions.layers_fn,
                    chosen,
                    terms,
                    recipe.projection,
                    1 if recipe.timesteps == "one" else recipe.time_chunk,
                    network.precision.gradients,
                )

            alone = jax.tree.map(lambda leaf: leaf[None], of(shared, ConceptQuestion(item.cond)))
            return alone | jax.vmap(partial(of, by_concept))(item.concepts)

        return _mean_over(gradients, recipe.members)

    found = jax.vmap(one)(batch)
    images, concepts = batch.minus.weights.shape[:2]
    rows = [
        jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), found[spec]) for spec in specs
    ]
    counts = [len(jax.tree.leaves(r)[0]) for r in rows]
    projected = project_together(rows, recipe.projection)
    parts = jnp.split(projected, np.cumsum(counts)[:-1])
    shape = (images, concepts, projected.shape[1])
    return jnp.stack(
        [jnp.broadcast_to(p.reshape(images, -1, shape[-1]), shape) for p in parts], axis=2
    )


def _mean_over(gradients: Any, members: int) -> dict[GradientSpec, Any]:
    """The mean of ``gradients(0 ... members - 1)``, one after the other."""

    def add(total: Params, number: Array) -> tuple[Params, None]:
        return jax.tree.map(jnp.add, total, gradients(number)), None

    gradients = jax.jit(gradients)  # traced once for both
    shapes = jax.eval_shape(gradients, jnp.int32(0))
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    total, _ = jax.lax.scan(add, zero, jnp.arange(members))
    return jax.tree.map(lambda leaf: leaf / members, total)
