"""Which parameters are differentiated: patterns on their paths."""

import fnmatch
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax

from ctrak_jax.typing import Array, Params


class Selection(NamedTuple):
    """A split of the parameters, by path; ``merge(params, others)`` is the full pytree.

    Attributes:
        params: the leaves whose gradient is taken.
        others: the other leaves.
    """

    params: dict[str, Array]
    others: dict[str, Array]
    merge: Callable[[dict[str, Array], dict[str, Array]], Params]

    @property
    def size(self) -> int:
        """d, the number of selected parameters."""
        return sum(leaf.size for leaf in self.params.values())


def parameter_paths(params: Params) -> list[str]:
    """The path of every leaf, such as ``blocks_0/attn/qkv/kernel``."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]


def select(
    params: Params, include: Sequence[str] = ("*",), exclude: Sequence[str] = ()
) -> Selection:
    """Select parameters by shell-style patterns on their paths, e.g. ``*attn*``, ``blocks_0/*``.

    Raises:
        ValueError: a pattern matches no parameter, or none is left.
    """
    paths = parameter_paths(params)
    for pattern in (*include, *exclude):
        if not any(fnmatch.fnmatchcase(path, pattern) for path in paths):
            raise ValueError(
                f"parameter pattern {pattern!r} matches none of {len(paths)} parameters; "
                f"their paths look like {paths[0]!r} and {paths[-1]!r}."
            )

    def matched(patterns: Sequence[str]) -> set[str]:
        return {path for path in paths for p in patterns if fnmatch.fnmatchcase(path, p)}

    wanted = matched(include) - matched(exclude)
    leaves, structure = jax.tree.flatten(params)
    named = dict(zip(paths, leaves, strict=True))
    selected = {path: leaf for path, leaf in named.items() if path in wanted}
    others = {path: leaf for path, leaf in named.items() if path not in wanted}
    if not selected:
        raise ValueError(
            f"include={list(include)} without exclude={list(exclude)} leaves no parameter."
        )

    def merge(chosen: dict[str, Array], others: dict[str, Array]) -> Params:
        both = chosen | others
        return jax.tree.unflatten(structure, [both[path] for path in paths])

    return Selection(selected, others, merge)
