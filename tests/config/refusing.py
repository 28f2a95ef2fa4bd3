"""Configs that must be refused."""

from pathlib import Path

import pytest

from ctrak_jax.config import load
from ctrak_jax.errors import UsageError


def write(folder: Path, text: str) -> Path:
    path = folder / "some.yaml"
    path.write_text(text)
    return path


def refused(path: Path | None, overrides: dict[str, str] | None = None) -> str:
    """The message of a config that must be refused: always one line."""
    with pytest.raises(UsageError) as caught:
        load(path, overrides)
    message = str(caught.value)
    assert message.splitlines() == [message], "a message is one line"
    return message
