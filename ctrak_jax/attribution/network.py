"""A network as functions of the parameters that are differentiated."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ctrak_jax.gradient import select
from ctrak_jax.precision import GIVEN, MatmulPolicy
from ctrak_jax.typing import Array, Cond, EpsFn, Image, LayersFn, LayerTrace, Params, Timestep


class Weights(NamedTuple):
    """All parameters of a network by path: those that are differentiated, and the others."""

    chosen: dict[str, Any]
    others: dict[str, Any]

    @property
    def size(self) -> int:
        """d, the number of parameters that are differentiated."""
        return sum(leaf.size for leaf in self.chosen.values())


class Predictions(NamedTuple):
    """The functions of a :class:`Network` of the chosen parameters alone."""

    eps_fn: EpsFn
    layers_fn: LayersFn
    exact_fn: EpsFn


class Network(NamedTuple):
    """A noise prediction of one sample whose parameters are given in two parts.

    Attributes:
        eps_fn: ``eps_fn(params, x, t, cond)``.
        layers_fn: the same with its linear layers shown.
        exact_fn: the same at least as precise, for the small difference of two predictions.
        merge: chosen and other parameters -> ``params``.
        precision: of the products that the functions have, and of the sums over a path's steps.
    """

    eps_fn: EpsFn
    layers_fn: LayersFn
    exact_fn: EpsFn
    merge: Callable[[dict[str, Any], dict[str, Any]], Params]
    precision: MatmulPolicy = GIVEN

    @property
    def mixed(self) -> bool:
        """Are differences taken by another function than gradients?"""
        return self.exact_fn is not self.eps_fn

    def given(self, others: dict[str, Any]) -> Predictions:
        """The functions once the other parameters are given."""

        def eps_fn(chosen: Params, x: Image, t: Timestep, cond: Cond, /) -> Image:
            return self.eps_fn(self.merge(chosen, others), x, t, cond)

        def layers_fn(
            chosen: Params, taps: Mapping[str, Array], x: Image, t: Timestep, cond: Cond, /
        ) -> LayerTrace:
            return self.layers_fn(self.merge(chosen, others), taps, x, t, cond)

        def exact_fn(chosen: Params, x: Image, t: Timestep, cond: Cond, /) -> Image:
            return self.exact_fn(self.merge(chosen, others), x, t, cond)

        return Predictions(eps_fn, layers_fn, exact_fn if self.mixed else eps_fn)


class Differentiable(NamedTuple):
    """A network and its parameters, split into those that are differentiated and the others."""

    network: Network
    params: Weights


def differentiable(
    eps_fn: EpsFn,
    params: Params,
    *,
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
    layers_fn: LayersFn | None = None,
    exact_fn: EpsFn | None = None,
    precision: MatmulPolicy = GIVEN,
) -> Differentiable:
    """A network ready to be attributed.

    Args:
        eps_fn: the noise prediction of one sample.
        params: its parameters, or their shapes.
        include: shell-style patterns on the parameters' paths.
        exclude: patterns left out of them.
        layers_fn: ``eps_fn`` that shows its linear layers; without it every gradient is formed.
        exact_fn: a more precise ``eps_fn`` for small differences.
        precision: of the functions' products (:mod:`ctrak_jax.precision`).

    Raises:
        ValueError: a pattern matches nothing, or nothing is left.
    """

    def shows_none(
        params: Params, taps: Mapping[str, Array], x: Image, t: Timestep, cond: Cond, /
    ) -> LayerTrace:
        return LayerTrace(eps_fn(params, x, t, cond), {}, {})

    selection = select(params, include, exclude)
    functions = eps_fn, layers_fn or shows_none, exact_fn or eps_fn
    network = Network(*functions, selection.merge, precision)
    return Differentiable(network, Weights(selection.params, selection.others))
