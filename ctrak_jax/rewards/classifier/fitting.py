"""Fitting a classifier on pictures as posterior means are: blurred, and with noise left in them.

A posterior mean of much noise shows no edges, and a classifier that has seen sharp pictures alone
has gradients there that mean less. Every training picture is therefore blurred and overlaid with
noise, each by a strength of its own between none and the most. A strong blur would hide small
things, such as glasses. Every random number of step s comes from ``fold_in(key, s)``.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int, UInt8

from ctrak_jax.errors import UsageError
from ctrak_jax.rewards.classifier.network import Classifier, log_probabilities
from ctrak_jax.typing import Array, Params, PRNGKey, Scalar

HELD_OUT = 0.2
"""Share of the pictures of every value that are not fitted, and whose accuracy is measured."""
STEPS, ROUNDS = 400, 8
"""Steps of a fit at least, and how often every picture is seen at least."""
LOOK = 50
"""Steps between two looks at the loss."""
READ = 256
"""Pictures classified at a time."""
UNKNOWN = -1
"""The place of a value that is not known."""


class FitSettings(NamedTuple):
    """How a classifier is fitted; the rate falls to zero over the steps by a cosine.

    Attributes:
        blur: the strongest blur: a standard deviation, in sides of the picture.
        noise: the strongest noise: a standard deviation, of pixels in [-1, 1].
        seed: of the parameters, of every random number, and of what is held out.
    """

    steps: int = STEPS
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    blur: float = 1 / 32
    noise: float = 0.1
    seed: int = 0


class Examples(NamedTuple):
    """Pictures of known values.

    Attributes:
        images: at the side that the classifier sees.
        values: by picture and head, the place of its value in the head, or ``UNKNOWN``.
    """

    images: UInt8[np.ndarray, "sample side side 3"]
    values: Int[np.ndarray, "sample head"]

    def at(self, rows: np.ndarray) -> "Examples":
        """Some of them."""
        return Examples(self.images[rows], self.values[rows])


class ValueCount(NamedTuple):
    """How many held-out pictures of a value are classified as it, of how many."""

    attribute: str
    value: str
    right: int
    total: int


class ClassifierFit(NamedTuple):
    """A fitted classifier, and what it does on pictures that it was not fitted on: as they are, and
    blurred and overlaid with noise as in the fit."""

    classifier: Classifier
    params: Params
    sharp: tuple[ValueCount, ...]
    degraded: tuple[ValueCount, ...]


def steps_for(count: int) -> int:
    """Steps by which so many examples are fitted."""
    return max(STEPS, ROUNDS * round((1 - HELD_OUT) * count) // FitSettings().batch)


def accuracy(counts: tuple[ValueCount, ...]) -> dict[str, float]:
    """The share that is right by attribute: the mean over its values that were held out."""
    shares: dict[str, list[float]] = {}
    for one in counts:
        if one.total:
            shares.setdefault(one.attribute, []).append(one.right / one.total)
    return {name: float(np.mean(found)) for name, found in shares.items()}


def fit(
    classifier: Classifier,
    examples: Examples,
    settings: FitSettings,
    advance: Callable[[int], None] = lambda count: None,
    *,
    seed_setting: str = "--seed",
) -> ClassifierFit:
    """Fit a classifier on all examples but those held out.

    Args:
        classifier: its attributes and side.
        examples: pictures, some of every value.
        settings: how.
        advance: is called with the number of steps just done.
        seed_setting: the setting to change where the loss is not finite.

    Raises:
        UsageError: the loss is not finite.
    """
    fitted, rest = split(examples.values, settings.seed)
    key = jax.random.key(settings.seed)
    start, noise = jax.random.split(key)
    params = classifier.init(start)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(
            optax.cosine_decay_schedule(settings.learning_rate, settings.steps),
            weight_decay=settings.weight_decay,
        ),
    )
    step = _step(classifier, optimizer, settings, _weights(classifier, examples.values[fitted]))
    state, loss = optimizer.init(params), None
    for number, rows in enumerate(_order(fitted, settings)):
        batch = examples.at(rows)
        params, state, loss = step(params, state, jax.random.fold_in(noise, number), *batch)
        done = number + 1
        if done % LOOK == 0 or done == settings.steps:
            if not np.isfinite(float(loss)):
                raise UsageError(
                    f"the classifier's loss became {float(loss)} before step {done}; try another "
                    f"{seed_setting}."
                )
            advance(done % LOOK or LOOK)
    held_out = examples.at(rest)
    counts = partial(_value_counts, classifier, params, held_out, settings)
    return ClassifierFit(classifier, params, counts(degraded=False), counts(degraded=True))


def split(values: Int[np.ndarray, "sample head"], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows that are fitted, and those held out: ``HELD_OUT`` of every combination of values, at
    least one where it has two, ascending."""
    _, kind = np.unique(values, axis=0, return_inverse=True)
    rng, rest = np.random.default_rng((seed, 0)), []
    for number in range(int(kind.max()) + 1):
        rows = rng.permutation(np.flatnonzero(kind.reshape(-1) == number))
        rest.append(rows[: max(round(HELD_OUT * len(rows)), int(len(rows) > 1))])
    held_out = np.sort(np.concatenate(rest))
    return np.setdiff1d(np.arange(len(values)), held_out), held_out


def degrade(
    image: Float[Array, "side side 3"], key: PRNGKey, blur: float, noise: float
) -> Float[Array, "side side 3"]:
    """A picture blurred, with noise over it, each by a strength between none and the most.

    Args:
        image: the picture.
        key: of the strengths and the noise.
        blur: the largest standard deviation of the blur, in sides of the picture.
        noise: the largest standard deviation of the noise.
    """
    keys = jax.random.split(key, 3)
    side = image.shape[0]
    spread = jnp.maximum(blur * side * jax.random.uniform(keys[0]), 1e-2)
    apart = np.arange(side)[:, None] - np.arange(side)
    rows = jax.nn.softmax(-0.5 * (apart / spread) ** 2, axis=1)
    blurred = jnp.einsum("ab,bcd,ec->aed", rows, image, rows)
    strength = noise * jax.random.uniform(keys[1])
    return blurred + strength * jax.random.normal(keys[2], image.shape)


def _step(
    classifier: Classifier,
    optimizer: optax.GradientTransformation,
    settings: FitSettings,
    weights: Float[np.ndarray, " value"],
) -> Callable[..., tuple[Params, optax.OptState, Scalar]]:
    starts = classifier.starts

    def one(params: Params, key: PRNGKey, image: Array, values: Array) -> Scalar:
        picture = degrade(_unit(image), key, settings.blur, settings.noise)
        found = log_probabilities(classifier.logits(params, picture), starts)
        places = starts[:-1] + jnp.maximum(values, 0)
        losses = jnp.asarray(weights)[places] * found[places]
        return -jnp.mean(jnp.where(values == UNKNOWN, 0.0, losses))

    def loss(params: Params, key: PRNGKey, images: Array, values: Array) -> Scalar:
        keys = jax.random.split(key, len(images))
        return jnp.mean(jax.vmap(one, (None, 0, 0, 0))(params, keys, images, values))

    @jax.jit
    def step(params, state, key, images, values):
        found, slope = jax.value_and_grad(loss)(params, key, images, values)
        change, state = optimizer.update(slope, state, params)
        return optax.apply_updates(params, change), state, found

    return step


def _weights(
    classifier: Classifier, values: Int[np.ndarray, "sample head"]
) -> Float[np.ndarray, " value"]:
    """What the values count in the loss: those of an attribute alike, whatever their numbers."""
    found = []
    for number, head in enumerate(classifier.heads):
        counts = np.bincount(values[values[:, number] >= 0, number], minlength=len(head.values))
        found.append(counts.sum() / np.maximum(counts, 1) / max((counts > 0).sum(), 1))
    return np.concatenate(found).astype(np.float32)


def _order(rows: np.ndarray, settings: FitSettings) -> np.ndarray:
    """The rows of every step [step, batch]: all of them once before any comes again."""
    rng, wanted = np.random.default_rng((settings.seed, 1)), settings.steps * settings.batch
    rounds = [rng.permutation(rows) for _ in range(-(-wanted // len(rows)))]
    return np.concatenate(rounds)[:wanted].reshape(settings.steps, settings.batch)


def _value_counts(
    classifier: Classifier,
    params: Params,
    examples: Examples,
    settings: FitSettings,
    *,
    degraded: bool,
) -> tuple[ValueCount, ...]:
    """The counts of some pictures."""

    @jax.jit
    @partial(jax.vmap, in_axes=(None, 0, 0))
    def logits(params: Params, image: Array, number: Array) -> Array:
        picture = _unit(image)
        if degraded:
            key = jax.random.fold_in(jax.random.key(settings.seed + 1), number)
            picture = degrade(picture, key, settings.blur, settings.noise)
        return classifier.logits(params, picture)

    rows = np.arange(-(-len(examples.values) // READ) * READ) % len(examples.values)
    found = np.concatenate(
        [
            np.asarray(logits(params, examples.images[rows[i : i + READ]], np.arange(i, i + READ)))
            for i in range(0, len(rows), READ)
        ]
    )[: len(examples.values)]
    counts = []
    for number, head in enumerate(classifier.heads):
        first, last = classifier.starts[number : number + 2]
        said, true = found[:, first:last].argmax(1), examples.values[:, number]
        for place, value in enumerate(head.values):
            rightly = int((said[true == place] == place).sum())
            counts.append(ValueCount(head.attribute, value, rightly, int((true == place).sum())))
    return tuple(counts)


def _unit(image: Array) -> Array:
    """uint8 -> [-1, 1]."""
    return image.astype(jnp.float32) / 127.5 - 1.0
