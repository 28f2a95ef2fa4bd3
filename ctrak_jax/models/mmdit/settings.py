"""Settings of a transformer's ``config.json``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from reprlib import repr as short
from typing import Any

from ctrak_jax.errors import UsageError


def positive(
    file: Path, config: Mapping[str, Any], names: Sequence[str], supported: str
) -> dict[str, int]:
    """The settings of these names, which are whole numbers above 0.

    Raises:
        UsageError: one is missing, or something else; one line.
    """
    missing = [name for name in names if name not in config]
    if missing:
        raise UsageError(f"{file} lacks {', '.join(missing)}; use {supported}.")
    odd = [name for name in names if type(config[name]) is not int or config[name] <= 0]
    if odd:
        raise UsageError(
            f"{file}: {odd[0]} is {short(config[odd[0]])}, expected a whole number above 0; use "
            f"{supported}."
        )
    return {name: config[name] for name in names}
