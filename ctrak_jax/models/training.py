r"""Training a class-conditional denoiser: noise loss, attribute dropout, averaged weights.

.. math::
    L(\theta) = E_{x_0, c, t, n} \mathrm{mean} (n - \epsilon_\theta(x_t, t, c'))^2        \tag{B.1}

with :math:`c'` the condition in which each attribute is null with a fixed probability, so that null
conditions mean something. Every random number of step s comes from ``fold_in(key, s)``: a resumed
run computes what an uninterrupted one would have.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int

from ctrak_jax.models.dit import CONDITIONING
from ctrak_jax.models.rows import one_product_a_layer
from ctrak_jax.models.tuning import noise_loss
from ctrak_jax.schedule import Schedule
from ctrak_jax.typing import Array, EpsFn, Params, PRNGKey


class TrainState(NamedTuple):
    """Parameters, their running average, the optimiser's state and the steps taken."""

    params: Params
    average: Params
    optimizer: optax.OptState
    step: Int[Array, ""]


class Progress(NamedTuple):
    """A state and the mean loss of the steps that led to it."""

    state: TrainState
    loss: Float[Array, ""]


class Trainer(NamedTuple):
    """``init(params)`` gives a state; ``run(state, key, *batches)`` trains over stacked batches,
    such as x0 [step, batch, ...] and cond [step, batch, condition]. The key is raw
    (:func:`jax.random.key_data`), one for all steps. The state's memory is used up."""

    init: Callable[[Params], TrainState]
    run: Callable[..., Progress]


class OptimizerSpec(NamedTuple):
    """How parameters are moved; the rates are peaks, after a linear warm-up and before a cosine to
    zero over ``steps``."""

    steps: int
    learning_rate: float
    adam_learning_rate: float
    kind: Literal["muon", "adamw"] = "muon"
    warmup: int = 100
    weight_decay: float = 0.0
    clip: float = 1.0


def optimizer(
    how: OptimizerSpec, *, by_adam: tuple[str, ...] = CONDITIONING
) -> optax.GradientTransformation:
    """Clipping by global norm, then Muon or AdamW.

    Muon (Jordan et al. 2024, as in optax.contrib) moves the matrices and the kernels of
    convolutions, each as one matrix to its outputs; all vectors, and whatever has a part of its
    name in ``by_adam``, are Adam's, as Muon's authors advise for embeddings.
    """
    warmup = min(how.warmup, max(how.steps - 1, 0))

    def rate(peak: float) -> optax.Schedule:
        return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, how.steps)

    if how.kind == "muon":
        rule = optax.contrib.muon(
            rate(how.learning_rate),
            weight_decay=how.weight_decay,
            adam_weight_decay=how.weight_decay,
            adam_learning_rate=rate(how.adam_learning_rate),
            muon_weight_dimension_numbers=partial(_muon_leaves, by_adam=by_adam),
        )
    else:
        rule = optax.adamw(rate(how.learning_rate), weight_decay=how.weight_decay)
    return optax.chain(optax.clip_by_global_norm(how.clip), rule)


def _muon_leaves(params: Params, by_adam: tuple[str, ...]) -> Any:
    """Which leaves Muon moves: matrices and convolutions off the conditioning path.

    Muon gives all singular directions of an update the same length, on an embedding [values, width]
    too, whatever the loss asks of each value. Models trained so composed by luck of the seed; these
    compose for every seed tried (docs/results/benchmarks/shapes.md).
    """
    shapes = {
        2: optax.contrib.MuonDimensionNumbers(),
        4: optax.contrib.MuonDimensionNumbers((0, 1, 2), 3),
    }

    def leaf(path: Any, value: Array) -> optax.contrib.MuonDimensionNumbers | None:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return None if any(part in name for part in by_adam) else shapes.get(value.ndim)

    return jax.tree_util.tree_map_with_path(leaf, params)


def trainer(
    eps_fn: EpsFn,
    schedule: Schedule,
    rule: optax.GradientTransformation,
    *,
    blocks: np.ndarray,
    attribute_dropout: float,
    condition_dropout: float,
    ema: float,
) -> Trainer:
    """The training run of a class-conditional denoiser on batches x0 and cond, by equation (B.1);
    ``blocks`` says which attribute each coordinate of a condition belongs to, int [condition]."""
    attributes = int(blocks.max(initial=-1)) + 1

    def sample_loss(params: Params, key: PRNGKey, x0: Array, cond: Array) -> Array:
        time_key, noise_key, drop_key = jax.random.split(key, 3)
        t = jax.random.randint(time_key, (), 0, schedule.steps)
        noise = jax.random.normal(noise_key, x0.shape)
        keep = jax.random.bernoulli(drop_key, 1.0 - attribute_dropout, (attributes,))
        none = jax.random.bernoulli(jax.random.fold_in(drop_key, 1), condition_dropout)
        cond = cond * keep[blocks] * (1.0 - none)
        return noise_loss(lambda x, t: eps_fn(params, x, t, cond), schedule, x0, t, noise)

    return trainer_of(sample_loss, rule, ema=ema)


def trainer_of(
    loss: Callable[..., Float[Array, ""]],
    rule: optax.GradientTransformation,
    *,
    ema: float,
    scan: bool = True,
    frozen: tuple[Params, ...] = (),
) -> Trainer:
    """A training run by any ``loss(params, *frozen, key, *sample)`` of one sample whose linear
    layers, where none are frozen, all see the sample
    (:func:`ctrak_jax.models.rows.one_product_a_layer`).

    Args:
        frozen: parameters that stay as they are, kernels of layers among them: what is trained are
            adapters beside these. They are arguments of the program, not constants in it.
        ema: decay of the running average of the parameters.
        scan: one program for all the steps of a call, which hides the time to start each. Not for
            convolutions: within a loop XLA leaves their derivatives in a form that CPUs have no
            fast code for (6.0 s of CPU time per step instead of 0.28, jax 0.10.2).
    """

    def batch_loss(
        params: Params, frozen: tuple[Params, ...], key: PRNGKey, batch: tuple[Any, ...]
    ) -> Array:
        keys = jax.random.split(key, batch[0].shape[0])
        axes = (None, *[None] * len(frozen), 0, *[0] * len(batch))
        # Taken over by one product, a layer would be without the adapters beside it.
        with nullcontext() if frozen else one_product_a_layer():
            return jnp.mean(jax.vmap(loss, axes)(params, *frozen, keys, *batch))

    def step(
        frozen: tuple[Params, ...],
        key: jax.Array,
        state: TrainState,
        batch: tuple[Any, ...],
    ) -> tuple[TrainState, Array]:
        step_key = jax.random.fold_in(jax.random.wrap_key_data(key), state.step)
        loss, gradient = jax.value_and_grad(batch_loss)(state.params, frozen, step_key, batch)
        updates, optimizer_state = rule.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        average = optax.incremental_update(params, state.average, 1.0 - ema)
        return TrainState(params, average, optimizer_state, state.step + 1), loss

    def init(params: Params) -> TrainState:
        return TrainState(params, params, rule.init(params), jnp.int32(0))

    @partial(jax.jit, donate_argnums=2)
    def whole(
        frozen: tuple[Params, ...], key: jax.Array, state: TrainState, batches: tuple[Any, ...]
    ) -> Progress:
        state, losses = jax.lax.scan(partial(step, frozen, key), state, batches)
        return Progress(state, losses.mean())

    def run(state: TrainState, key: jax.Array, *batches: Any) -> Progress:
        return whole(frozen, key, state, batches)

    one = jax.jit(step, donate_argnums=2)

    def run_by_step(state: TrainState, key: jax.Array, *batches: Any) -> Progress:
        losses = []
        for i in range(batches[0].shape[0]):
            batch = jax.tree.map(lambda leaf, i=i: leaf[i], batches)
            state, found = one(frozen, key, state, batch)
            losses.append(found)
        return Progress(state, jnp.stack(losses).mean())

    return Trainer(init, run if scan else run_by_step)
