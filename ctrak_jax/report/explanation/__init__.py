"""An explained answer as people look at it: a page, a sheet of pictures, numbers."""

from ctrak_jax.report.explanation.page import Shown, numbers, write_explained

__all__ = ["Shown", "numbers", "write_explained"]
