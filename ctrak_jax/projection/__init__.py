"""Johnson-Lindenstrauss projections whose matrix is never stored."""

from ctrak_jax.projection.api import (
    KINDS,
    Projection,
    implementation_of,
    project,
    project_leaves,
    rows_per_step,
)

__all__ = ["KINDS", "Projection", "implementation_of", "project", "project_leaves", "rows_per_step"]
