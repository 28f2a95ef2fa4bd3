"""Tests that compile for TPUs: skipped where the compiler is not installed."""

import pytest

from ctrak_jax.errors import UsageError
from ctrak_jax.plan.chips import library


def _installed() -> bool:
    try:
        return library().is_file()
    except UsageError:
        return False


needs_libtpu = pytest.mark.skipif(not _installed(), reason="needs libtpu: run `make tpu`")
