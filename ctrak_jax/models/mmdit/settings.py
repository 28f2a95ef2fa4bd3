"""What a transformer can be: settings of its ``config.json``, and sizes of its latents."""

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


def require_patches(height: int, width: int, patch: int, most: int | None = None) -> None:
    """Patches fill a latent of this size, and at most ``most`` of them lie along a side.

    Raises:
        UsageError: they do not.
    """
    longest = max(height, width) if most is None else most * patch
    if height % patch or width % patch or max(height, width) > longest:
        bound = "" if most is None else f", up to {longest}"
        raise UsageError(
            f"latents of {height} x {width} do not fit: expected multiples of {patch}{bound}; use "
            "images of another size."
        )
