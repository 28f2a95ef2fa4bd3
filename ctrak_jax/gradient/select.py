"""Which parameters are differentiated: patterns on their paths, and names of usual selections."""

import fnmatch
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import jax

from ctrak_jax.typing import Array, Params

CONTEXT = tuple(
    f"*/attn/{layer}/*" for layer in ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
)
"""The text's side of joint attention."""
NAMED: Mapping[str, Sequence[tuple[str, ...]]] = {
    "cross-attention": (CONTEXT, ("*/attn2/*",)),
}
"""The name of a selection -> patterns, of which the first that the network has are meant. Joint
attention goes first: where a network has it, ``attn2`` is the image's attention to itself."""


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
    """Select parameters by shell-style patterns on their paths, e.g. ``*attn*``, ``blocks_0/*``, or
    by a name of ``NAMED``.

    Raises:
        ValueError: a pattern matches no parameter, or none is left.
    """
    paths = parameter_paths(params)
    include, exclude = expanded(include, paths), expanded(exclude, paths)
    matched = {pattern: _matching(paths, pattern) for pattern in (*include, *exclude)}
    for pattern, found in matched.items():
        if not found:
            raise ValueError(
                f"parameter pattern {pattern!r} matches none of {len(paths)} parameters; "
                f"their paths look like {paths[0]!r} and {paths[-1]!r}."
            )
    wanted = {path for pattern in include for path in matched[pattern]}
    wanted -= {path for pattern in exclude for path in matched[pattern]}
    leaves, structure = jax.tree.flatten(params)
    named = dict(zip(paths, leaves, strict=True))
    selected = {path: leaf for path, leaf in named.items() if path in wanted}
    others = {path: leaf for path, leaf in named.items() if path not in wanted}
    if not selected:
        raise ValueError(f"include={include} without exclude={exclude} leaves no parameter.")

    def merge(chosen: dict[str, Array], others: dict[str, Array]) -> Params:
        both = chosen | others
        return jax.tree.unflatten(structure, [both[path] for path in paths])

    return Selection(selected, others, merge)


def expanded(patterns: Sequence[str], paths: Collection[str]) -> list[str]:
    """Patterns with the names of ``NAMED`` replaced by what they mean among these paths."""

    def meant(pattern: str) -> tuple[str, ...]:
        groups = NAMED.get(pattern, ((pattern,),))
        return next((group for group in groups if any(_matching(paths, p) for p in group)), ())

    return [found for pattern in patterns for found in meant(pattern) or (pattern,)]


def _matching(paths: Collection[str], pattern: str) -> list[str]:
    return [path for path in paths if fnmatch.fnmatchcase(path, pattern)]
