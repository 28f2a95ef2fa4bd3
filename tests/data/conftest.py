"""What the log says, whatever a command has made of its handlers before."""

import pytest

from ctrak_jax.log import logger


@pytest.fixture
def warned(monkeypatch) -> list[str]:
    """The warnings of a test."""
    lines: list[str] = []
    monkeypatch.setattr(logger, "warning", lambda text, *values: lines.append(text % values))
    return lines


@pytest.fixture
def informed(monkeypatch) -> list[str]:
    """What is said for information."""
    lines: list[str] = []
    monkeypatch.setattr(logger, "info", lambda text, *values: lines.append(text % values))
    return lines
