"""From the method table to gradients: what featurize compiles, and what query has in common."""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Float

from ctrak_jax import devices, reward
from ctrak_jax.errors import UsageError
from ctrak_jax.gradient import Layers, Selection, assemble, path_gradients, project_layers, select
from ctrak_jax.methods import METHODS, GradientSpec
from ctrak_jax.models import Denoiser
from ctrak_jax.projection import Projection, project_leaves
from ctrak_jax.reward import Contrast, Loss
from ctrak_jax.schedule import Schedule, implied_noise
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.samples import TrainBatch
from ctrak_jax.stages.variant import Variant
from ctrak_jax.trajectory import Guidance, Path, forward_path, invert
from ctrak_jax.typing import Array, Cond, EpsFn, Image, LayersFn, Params, Seen, Timestep


class Weights(NamedTuple):
    """All parameters of a network by path: those that are differentiated, and the others."""

    chosen: dict[str, Any]
    others: dict[str, Any]


class Network(NamedTuple):
    """A network as a function of the parameters that are differentiated; its predictions may be
    of lower precision than the exact ones."""

    eps_fn: EpsFn
    layers_fn: LayersFn
    exact_fn: EpsFn


class Selected(NamedTuple):
    """A model with the part of its parameters that is differentiated.

    Attributes:
        specs: how the weights are placed on the devices, by path.
    """

    selection: Selection
    model: Denoiser
    specs: Weights

    @property
    def weights(self) -> Weights:
        """What the compiled programs take as their first argument."""
        return Weights(self.selection.params, self.selection.others)

    def network(self, others: dict[str, Array]) -> Network:
        """The network once the other parameters are given."""

        def eps_fn(chosen: Params, x: Image, t: Timestep, cond: Cond, /) -> Image:
            return self.model.eps_fn(self.selection.merge(chosen, others), x, t, cond)

        def layers_fn(
            chosen: Params, taps: Mapping[str, Array], x: Image, t: Timestep, cond: Cond, /
        ) -> Seen:
            return self.model.layers_fn(self.selection.merge(chosen, others), taps, x, t, cond)

        def exact_fn(chosen: Params, x: Image, t: Timestep, cond: Cond, /) -> Image:
            return self.model.exact_fn(self.selection.merge(chosen, others), x, t, cond)

        return Network(eps_fn, layers_fn, exact_fn if self.mixed else eps_fn)

    @property
    def mixed(self) -> bool:
        """Does the network compute in less than the exact precision?"""
        return self.model.exact_fn is not self.model.eps_fn


def selection_of(ctx: Context, params: Params, variant: Variant) -> Selection:
    """Apply the config's and the variant's parameter patterns.

    Raises:
        UsageError: a pattern matches nothing, or nothing or too little is left.
    """
    gradient, projection = ctx.config.gradient, ctx.config.projection
    try:
        chosen = select(params, gradient.include, (*gradient.exclude, *variant.exclude))
    except ValueError as error:
        raise UsageError(f"gradient.include or gradient.exclude: {error}") from None
    if projection.kind == "mask" and projection.k > chosen.size:
        raise UsageError(
            f"projection.k={projection.k} coordinates cannot be chosen from {chosen.size} selected "
            f"parameters; use a smaller k, or another projection.kind than mask."
        )
    return chosen


def selected(ctx: Context, model: Denoiser, variant: Variant) -> Selected:
    """The part of a model that is differentiated.

    Parameters may be in parts on the devices (:func:`ctrak_jax.devices.gathering`), but for those
    whose gradients are taken directly.
    """
    selection = selection_of(ctx, model.params, variant)
    x, c = map(jnp.zeros, ctx.shapes)
    seen = jax.eval_shape(model.layers_fn, model.params, {}, x, jnp.int32(0), c)
    kernels = {f"{layer}/kernel" for layer in seen.outputs}

    def spec(path: str, leaf: Any) -> PartitionSpec:
        direct = path in selection.params and path not in kernels
        return devices.WHOLE if direct else devices.parameter_spec(leaf.shape, ctx.mesh)

    def specs(leaves: dict[str, Any]) -> dict[str, PartitionSpec]:
        return {path: spec(path, leaf) for path, leaf in leaves.items()}

    return Selected(selection, model, Weights(specs(selection.params), specs(selection.others)))


def loss_of(
    loss: str,
    schedule: Schedule,
    x0: Image,
    minus: Cond,
    scale: float,
    contrast: Contrast | None = None,
) -> Loss:
    """A loss of the table for one sample (``minus``, ``scale`` and ``contrast`` matter to the
    slider alone)."""
    losses = {
        "dsm": lambda: reward.dsm(schedule, x0),
        "l2": reward.l2,
        "l1": reward.l1,
        "mean": reward.mean,
        "dps": lambda: reward.dps(schedule, x0),
        "slider": lambda: reward.slider(minus, scale, contrast),
    }
    return losses[loss]()


def gradients_of(
    ctx: Context,
    layers_fn: LayersFn,
    params: dict[str, Array],
    specs: Sequence[GradientSpec],
    paths: Mapping[str, Path],
    cond: Cond,
    loss: Callable[[GradientSpec], Loss],
) -> dict[GradientSpec, Any]:
    """Gradients of one sample, or their projections where these need no gradient; two specs that
    differ in normalisation alone share their passes."""
    projection = projection_of(ctx)

    def features(layers: Layers, weights: Array) -> Array:
        return project_layers(layers, weights, projection)

    finish = features if projection.kind == "factored" else assemble
    found: dict[GradientSpec, Any] = {}
    for spec in specs:
        if spec in found:
            continue
        wanted = [n for n in (False, True) if spec._replace(normalise=n) in specs]
        sums = path_gradients(
            loss(spec),
            layers_fn,
            params,
            paths[spec.path],
            cond,
            normalise=wanted,
            time_chunk=ctx.config.gradient.time_chunk,
            finish=finish,
        )
        found |= {spec._replace(normalise=n): s for n, s in zip(wanted, sums, strict=True)}
    return found


def guidance_of(scale: float, against: Cond) -> Guidance | None:
    """Guidance of scale 1 is no guidance, at half the price."""
    return None if scale == 1.0 else Guidance(scale, against)


def projection_of(ctx: Context) -> Projection:
    """The projection of a config."""
    p = ctx.config.projection
    return Projection(p.k, p.kind, p.seed, p.tile, p.implementation)


class TrainRows(NamedTuple):
    """Features [sample, spec, proj] and denoising errors on the forward path [sample, time] (no
    columns where they are not asked for)."""

    features: Float[Array, "sample spec proj"]
    errors: Float[Array, "sample time"]


def train_rows(
    ctx: Context,
    chosen: Selected,
    specs: Sequence[GradientSpec],
    with_errors: bool,
    weights: Weights,
    batch: TrainBatch,
) -> TrainRows:
    """Features of a batch of training samples for several gradients that share their paths.

    Args:
        with_errors: also compute the denoising errors, which cost a pass of their own.
    """
    params, network = weights.chosen, chosen.network(weights.others)

    def one(item: TrainBatch) -> tuple[list[Any], Array]:
        x0, cond, against, index = item
        key = jax.random.fold_in(jax.random.key(ctx.config.trajectory.seed), index)
        forward = forward_path(ctx.schedule, x0, ctx.grid.recorded, key)
        paths = {"forward": forward}
        if any(spec.path == "inversion" for spec in specs):
            paths["inversion"] = guided_inversions(ctx, network.exact_fn, params, x0, cond, against)
        gradients = gradients_of(
            ctx,
            network.layers_fn,
            params,
            specs,
            paths,
            cond,
            lambda spec: loss_of(spec.loss, ctx.schedule, x0, cond, 1.0),
        )
        errors = jnp.zeros(0)
        if with_errors:
            errors = denoising_errors(network.eps_fn, params, ctx.schedule, forward, x0, cond)
        return [gradients[spec] for spec in specs], errors

    gradients, errors = jax.vmap(one)(batch)
    return TrainRows(project_together(gradients, projection_of(ctx)), errors)


def guided_inversions(
    ctx: Context, eps_fn: EpsFn, params: Params, x0: Image, cond: Cond, against: Cond
) -> Path:
    """The inversions of one sample guided against each opponent [opponent, ...], end to end.

    One opponent alone says as much about that opponent as about the sample: against (circle, blue)
    a blue triangle's gradient is that of "triangle, not circle", and ranks high for whatever else a
    circle is not. With one attribute changed at a time each attribute is contrasted on its own.
    """
    scale = ctx.config.trajectory.guidance

    def one(other: Cond) -> Path:
        guidance = guidance_of(scale, other)
        return invert(eps_fn, params, ctx.schedule, ctx.grid, x0, cond, guidance=guidance)

    if scale == 1.0:
        return one(against[0])
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), jax.vmap(one)(against))


def project_together(
    gradients: Sequence[Any], projection: Projection
) -> Float[Array, "sample spec proj"]:
    """Project several gradients of the same samples at once: every tile of R is made once.

    What is projected already passes through.
    """
    if projection.kind == "factored":
        return jnp.stack(gradients, axis=1)
    projected = project_leaves(end_to_end(gradients), projection)
    return projected.reshape(len(gradients), -1, projection.k).swapaxes(0, 1)


def end_to_end(gradients: Sequence[Params]) -> Params:
    """Several pytrees [sample, ...] as one, their samples one after the other."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *gradients)


def denoising_errors(
    eps_fn: EpsFn, params: Params, schedule: Schedule, path: Path, x0: Image, cond: Cond
) -> Float[Array, " time"]:
    """mean (n - eps)^2 of one sample at every step of a path."""

    def error(x: Image, t: Array) -> Array:
        noise = implied_noise(schedule, x, t, x0)
        return jnp.mean((noise - eps_fn(params, x, t, cond)) ** 2)

    return jax.vmap(error)(path.x, path.t)


def train_specs(methods: Sequence[str]) -> dict[GradientSpec, str]:
    """The distinct training gradients of the methods -> the store that holds their features.

    A store bears the name of the first method in the table that needs it.
    """
    owners: dict[GradientSpec, str] = {}
    for name, method in METHODS.items():
        if method.train is not None:
            owners.setdefault(method.train, name)
    wanted = [METHODS[m].train for m in methods]
    return {spec: owners[spec] for spec in owners if spec in wanted}


def store_of(method: str) -> str:
    """The name of the store that holds a method's training features."""
    spec = METHODS[method].train
    if spec is None:
        raise ValueError(f"method {method!r} keeps no features.")
    return train_specs([method])[spec]


def needs_errors(method_specs: Mapping[GradientSpec, str]) -> set[str]:
    """Stores that also keep denoising errors."""
    return {
        store
        for spec, store in method_specs.items()
        if any(m.train == spec and m.error_weight for m in METHODS.values())
    }


def feature_key(
    ctx: Context,
    selection: Selection,
    variant: Variant,
    spec: GradientSpec,
    made_by: Mapping[str, str],
) -> dict[str, Any]:
    """What a row of features depends on: the key of its store.

    Args:
        made_by: the model, :func:`ctrak_jax.stages.model.key`.
    """
    config, p = ctx.config, ctx.config.projection
    trajectory: dict[str, Any] = {"path": spec.path, "seed": config.trajectory.seed}
    if spec.path == "inversion":
        unused = set() if config.trajectory.negative_prompt else {"negative_prompt"}
        trajectory |= config.trajectory.model_dump(mode="json", exclude=unused)
    return {
        **made_by,
        "dataset": ctx.dataset.fingerprint,
        "loss": spec.loss,
        "trajectory": trajectory,
        "schedule": config.schedule.model_dump(mode="json"),
        "timesteps": np.asarray(ctx.grid.recorded).tolist(),
        "normalise": spec.normalise,
        "selected": {
            "include": list(config.gradient.include),
            "exclude": [*config.gradient.exclude, *variant.exclude],
            "parameters": selection.size,
        },
        "projection": {"k": p.k, "kind": p.kind, "seed": p.seed},
        "dtype": config.store.dtype,
        "version": version("ctrak-jax"),
        "relabel": variant.relabel,
        **ctx.inputs.key,
    }
