"""Johnson-Lindenstrauss projections whose matrix is never stored."""

from ctrak_jax.projection.api import Projection, project

__all__ = ["Projection", "project"]
