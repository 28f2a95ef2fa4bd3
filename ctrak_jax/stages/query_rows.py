"""Features of questions: what query, attribute and the AbC benchmark compile."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ctrak_jax.methods import GradientSpec
from ctrak_jax.projection import project_leaves
from ctrak_jax.reward import Loss, Mixture, contrast_of
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.gradients import (
    Selected,
    Weights,
    end_to_end,
    gradients_of,
    guidance_of,
    loss_of,
    projection_of,
)
from ctrak_jax.trajectory import Path, forward_path, invert, sample
from ctrak_jax.typing import Array, Cond, EpsFn, Image, Params, PRNGKey


class QueryBatch(NamedTuple):
    """Asked samples and what is asked of each: x0 [query, ...] (unused in global scope), cond
    [query, ...], minus: mixtures [query, concept, alternative, ...], id [query]."""

    x0: Any
    cond: Any
    minus: Mixture
    id: Any


def stacked(groups: Sequence[Sequence[np.ndarray]]) -> Mixture:
    """The alternatives of every concept of every image, each counting alike, as one array: where
    there are fewer than the most, the first comes again with no weight.

    Args:
        groups: [query, concept] of [alternative, ...].
    """
    most = max(len(found) for group in groups for found in group)

    def filled(found: np.ndarray) -> np.ndarray:
        return np.concatenate([found, np.repeat(found[:1], most - len(found), axis=0)])

    def weights(count: int) -> np.ndarray:
        return np.where(np.arange(most) < count, np.float32(1.0 / count), np.float32(0.0))

    return Mixture(
        np.array([[filled(found) for found in group] for group in groups]),
        np.array([[weights(len(found)) for found in group] for group in groups]),
    )


class Member(NamedTuple):
    """One draw of a query: an image and its states by path."""

    x0: Image
    paths: dict[str, Path]


def query_member(
    ctx: Context,
    eps_fn: EpsFn,
    params: Params,
    item: QueryBatch,
    null: Cond,
    key: PRNGKey,
    scope: str,
) -> Member:
    """One repetition of a local query, or one sampling trajectory of a global one (section 3)."""
    q, schedule = ctx.config.query, ctx.schedule
    path_key, noise_key = jax.random.split(key)
    if scope == "global":
        noise = jax.random.normal(noise_key, item.x0.shape)
        guidance = guidance_of(q.sampling_guidance, null)
        drawn = sample(eps_fn, params, schedule, ctx.grid, noise, item.cond, guidance=guidance)
        x0, inversion = drawn.x0, drawn.path
    else:
        x0 = item.x0
        inversion = invert(
            eps_fn,
            params,
            schedule,
            ctx.grid,
            x0,
            item.cond,
            guidance=guidance_of(q.guidance, null),
            eta=q.eta,
            key=path_key,
        )
    forward = forward_path(schedule, x0, ctx.grid.recorded, noise_key)
    return Member(x0, {"forward": forward, "inversion": inversion})


def query_rows(
    ctx: Context,
    chosen: Selected,
    specs: Sequence[GradientSpec],
    scope: str,
    null: np.ndarray,
    weights: Weights,
    batch: QueryBatch,
) -> Float[Array, "query concept spec proj"]:
    """Features of a batch of queries: mean over members of the gradient summed over time.

    Args:
        null: the condition that guidance is against.

    Only the slider knows the concept; every other gradient is one for all concepts of an image.
    """
    q = ctx.config.query
    members = q.repetitions if scope == "local" else q.trajectories
    shared = [spec for spec in specs if spec.loss != "slider"]
    by_concept = [spec for spec in specs if spec.loss == "slider"]
    params, network = weights.chosen, chosen.network(weights.others)

    def one(item: QueryBatch) -> dict[GradientSpec, Any]:
        def gradients(number: Array) -> dict[GradientSpec, Any]:
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(q.seed), item.id), number)
            member = query_member(
                ctx, network.exact_fn, params, item, jnp.asarray(null), key, scope
            )

            def of(wanted: Sequence[GradientSpec], minus: Cond) -> dict[GradientSpec, Any]:
                contrast = None
                if chosen.mixed:
                    contrast = contrast_of(network.exact_fn, params, item.cond, minus)

                def loss(spec: GradientSpec) -> Loss:
                    return loss_of(spec.loss, ctx.schedule, member.x0, minus, q.scale, contrast)

                args = ctx, network.layers_fn, params, wanted, member.paths, item.cond, loss
                return gradients_of(*args)

            alone = jax.tree.map(lambda leaf: leaf[None], of(shared, item.cond))
            return alone | jax.vmap(lambda minus: of(by_concept, minus))(item.minus)

        def add(total: Params, number: Array) -> tuple[Params, None]:
            return jax.tree.map(jnp.add, total, gradients(number)), None

        shapes = jax.eval_shape(gradients, jnp.int32(0))
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        total, _ = jax.lax.scan(add, zero, jnp.arange(members))
        return jax.tree.map(lambda leaf: leaf / members, total)

    found = jax.vmap(one)(batch)
    queries, concepts = batch.minus.weights.shape[:2]
    rows = [
        jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), found[spec]) for spec in specs
    ]
    counts = [len(jax.tree.leaves(r)[0]) for r in rows]
    projected, projection = end_to_end(rows), projection_of(ctx)
    if projection.kind != "factored":
        projected = project_leaves(projected, projection)
    parts = jnp.split(projected, np.cumsum(counts)[:-1])
    shape = (queries, concepts, projected.shape[1])
    return jnp.stack(
        [jnp.broadcast_to(p.reshape(queries, -1, shape[-1]), shape) for p in parts], axis=2
    )
