"""Conditions as trees of arrays: a network may take one array or several, each by a name."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ctrak_jax.typing import Cond


def stacked(conditions: Sequence[Cond], axis: int = 0) -> Cond:
    """Conditions of one form side by side, along a new axis of every array."""
    return jax.tree.map(lambda *leaves: np.stack(leaves, axis), *conditions)


def zeros_like(condition: Cond) -> Cond:
    """Zeros of the shapes and dtypes of a condition."""
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), condition)


def by_name(condition: Cond) -> dict[str, Any]:
    """The arrays of a condition by the path of their names; one array alone has the name ""."""
    found, _ = jax.tree_util.tree_flatten_with_path(condition)
    return {jax.tree_util.keystr(path, simple=True, separator="_"): leaf for path, leaf in found}
