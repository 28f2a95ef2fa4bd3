"""Johnson-Lindenstrauss projections whose matrix is never stored."""

from ctrak_jax.projection.api import (
    Projection,
    implementation_of,
    project,
    project_leaf,
    project_leaves,
)

__all__ = ["Projection", "implementation_of", "project", "project_leaf", "project_leaves"]
