"""Weights under diffusers' names as the parameters of a network: paths, layouts, dtypes.

PyTorch keeps ``Linear.weight`` as [out, in] and ``Conv2d.weight`` as [out, in, height, width]; flax
has kernels [in, out] and [height, width, in, out]. Numbered modules are ``blocks.0`` there, and
``blocks_0`` or ``blocks/0`` here; attention layers have borne two sets of names.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from ctrak_jax.errors import UsageError
from ctrak_jax.gradient import parameter_paths
from ctrak_jax.models.checkpoints import Opened
from ctrak_jax.models.checkpoints.spelling import plain
from ctrak_jax.models.stable_diffusion.config_file import Component
from ctrak_jax.typing import Params, PRNGKey


@runtime_checkable
class _Initialised(Protocol):
    def init(self, key: PRNGKey) -> Params: ...


N = TypeVar("N", bound=_Initialised)

LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}
CONSTANTS = ("position_ids",)
"""Tensors of PyTorch checkpoints that are no parameters."""


HALF = (np.dtype(jnp.float16), np.dtype(jnp.bfloat16))


def load(opened: Opened, network: N, *, keep: bool = False) -> Component[N]:
    """A network with its parameters, float32.

    Args:
        opened: the file.
        network: says what they are.
        keep: those that the file has in 16 bits stay as they are. It takes half the memory and
            changes no number of a network that converts them where it computes with them.
    """
    template = jax.eval_shape(network.init, jax.random.key(0))
    try:
        found = opened.tensors if opened.flax else convert(opened.tensors, template)
    except (ValueError, KeyError, TypeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UsageError(
            f"{opened.file}: cannot be used ({reason}); take config.json and weights of one model, "
            "whole."
        ) from None
    return Component(network, _fit(opened.file, found, template, HALF if keep else ()))


def _by_path(tree: Params) -> dict[str, Any]:
    return dict(zip(parameter_paths(tree), jax.tree.leaves(tree), strict=True))


def _torch_names(template: Params) -> dict[str, str]:
    """The PyTorch name of every parameter, in one spelling, -> its path."""
    names = {}
    for path in parameter_paths(template):
        module, _, leaf = path.rpartition("/")
        names[f"{plain(module.replace('/', '.'))}.{LEAVES.get(leaf, leaf)}"] = path
    return names


def convert(tensors: Mapping[str, np.ndarray], template: Params) -> dict[str, np.ndarray]:
    """PyTorch tensors by name -> parameters (or their gradients) by path, in flax's layouts."""
    paths, found = _torch_names(template), {}
    for name, value in tensors.items():
        module, _, leaf = name.rpartition(".")
        if leaf in CONSTANTS:
            continue
        path = paths.get(f"{plain(module)}.{leaf}")
        if path is None:
            raise ValueError(f"tensor {name!r} is not in the network that config.json describes")
        if path.endswith("/kernel"):
            value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
        found[path] = value
    return found


def _fit(
    file: Path, found: Mapping[str, Any], template: Params, kept: Sequence[Any] = ()
) -> Params:
    wanted = _by_path(template)
    for path in sorted(found.keys() | wanted.keys()):
        here = found[path].shape if path in found else "missing"
        there = wanted[path].shape if path in wanted else "no such parameter"
        if here != there:
            raise UsageError(
                f"{file}: parameter {path} is {here}, config.json describes {there}; use the "
                "config.json and the weights of one model."
            )

    def leaf(value: np.ndarray) -> jax.Array:
        return jnp.asarray(value if value.dtype in kept else np.asarray(value, np.float32))

    leaves = [leaf(np.asarray(found[path])) for path in wanted]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)
