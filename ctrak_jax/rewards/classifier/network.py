r"""A small classifier of attributes, whose log-probabilities are rewards (method.md, section 2).

A head per attribute gives the logits l of its values. The reward of a value v is

.. math::
    R(\hat x_0) = \log p(v \mid \hat x_0) = -\mathrm{softplus}(-m), \qquad
    m = l_v - \log \sum_{u \ne v} e^{l_u}                                                 \tag{2.7}

written by the margin m: the difference of two numbers near one, which the gradient of a softmax is
where the classifier is certain, would be lost to rounding.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ctrak_jax.errors import UsageError
from ctrak_jax.typing import Array, Params, PRNGKey, Scalar

WIDTH = 32
"""Channels of the first layer; every halving of the picture doubles them, twice."""
LAST = 4
"""Side of the last feature map, which is averaged: where in the picture a value shows is open."""
DEFAULT_SIDE = 32
"""Larger pictures are resized to this side unless another is asked for."""
GROUPS = 8
NETWORK = 2
"""Version of the function that parameters belong to; another function by the same shapes has
another number. Version 1 normalised every row of a picture by itself."""


class AttributeHead(NamedTuple):
    """An attribute and its values, in the order of the logits."""

    attribute: str
    values: tuple[str, ...]


class _Network(nn.Module):
    """Convolutions that halve the picture, averaged over places: x [side, side, 3] -> logits."""

    halvings: int
    outputs: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for number in range(self.halvings + 1):
            width = WIDTH * 2 ** min(number, 2)
            x = nn.Conv(width, (3, 3), 2 if number else 1)(x)
            # Axis 0 is a row, no batch: without the axes flax normalises each row by itself.
            x = nn.silu(nn.GroupNorm(GROUPS, reduction_axes=(0, 1, 2))(x))
        x = x.mean((0, 1))
        x = nn.silu(nn.Dense(len(x))(x))
        return nn.Dense(self.outputs)(x)


class Classifier(NamedTuple):
    """A classifier without its parameters.

    Attributes:
        heads: the attributes.
        side: of the pictures that it sees; others are resized to it.
    """

    heads: tuple[AttributeHead, ...]
    side: int

    @property
    def starts(self) -> np.ndarray:
        """Where the logits of each head begin, and where those of the last one end."""
        return np.cumsum([0, *(len(head.values) for head in self.heads)])

    def init(self, key: PRNGKey) -> Params:
        """Fresh parameters; under ``jax.eval_shape`` their shapes."""
        return self._network.init(key, jnp.zeros((self.side, self.side, 3)))["params"]

    def logits(
        self, params: Params, image: Float[Array, "height width 3"]
    ) -> Float[Array, " value"]:
        """The logits of all heads, of one picture in [-1, 1] of any size."""
        return jnp.asarray(
            self._network.apply({"params": params}, centred_square(image, self.side))
        )

    def log_probability(
        self,
        params: Params,
        image: Float[Array, "height width 3"],
        value: Int[Array, ""] | int,
    ) -> Scalar:
        """Equation (2.7) of one picture.

        Args:
            params: of the classifier.
            image: the picture, in [-1, 1].
            value: the place of the value among the logits, see :attr:`places`.
        """
        return log_probabilities(self.logits(params, image), self.starts)[value]

    @property
    def places(self) -> dict[tuple[str, str], int]:
        """(attribute, value) -> its place among the logits."""
        names = [(head.attribute, value) for head in self.heads for value in head.values]
        return {name: place for place, name in enumerate(names)}

    @property
    def _network(self) -> _Network:
        halvings = max(0, (self.side // LAST).bit_length() - 1)
        return _Network(halvings, int(self.starts[-1]))


def classifier_of(values: Mapping[str, Sequence[str]], side: int) -> Classifier:
    """The classifier of the attributes that have more than one value, for pictures of this side: of
    one value the log-probability is 0 whatever the picture.

    Raises:
        UsageError: there is no such attribute.
    """
    heads = [AttributeHead(name, tuple(known)) for name, known in values.items() if len(known) > 1]
    if not heads:
        raise UsageError(
            f"a classifier tells values apart, and each of {', '.join(values)} has one value; give "
            "an attribute of two values in data.condition_on, or another query.reward."
        )
    return Classifier(tuple(heads), min(side, DEFAULT_SIDE))


def centred_square(image: Float[Array, "height width 3"], side: int) -> Float[Array, "side side 3"]:
    """The centred square of a picture at a side; pixels are averaged, not left out."""
    short = min(image.shape[:2])
    top, left = ((length - short) // 2 for length in image.shape[:2])
    square = image[top : top + short, left : left + short]
    if short == side:
        return square
    return jax.image.resize(square, (side, side, image.shape[-1]), "linear", antialias=True)


def log_probabilities(
    logits: Float[Array, " value"], starts: Sequence[int] | np.ndarray
) -> Float[Array, " value"]:
    """Equation (2.7) for every value of every head.

    Args:
        logits: of all heads, one behind the other.
        starts: where each begins, and the end of the last.
    """
    return jnp.concatenate([_of_head(logits[a:b]) for a, b in pairwise(starts)])


def _of_head(logits: Float[Array, " value"]) -> Float[Array, " value"]:
    others = jnp.where(np.eye(len(logits), dtype=bool), -jnp.inf, logits)
    return -jax.nn.softplus(jax.nn.logsumexp(others, axis=1) - logits)
