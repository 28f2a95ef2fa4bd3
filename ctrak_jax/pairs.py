"""Attribute values as one line of text: ``shape=triangle;color=red``."""

from collections.abc import Mapping
from urllib.parse import unquote

QUOTED = str.maketrans({sign: f"%{ord(sign):02X}" for sign in "%;=\r\n"})
"""What would read as a separator, in percent-encoding."""


def join(values: Mapping[str, str]) -> str:
    """``shape=triangle;color=red``, on one line, with ``%``, ``;`` and ``=`` percent-encoded."""
    return ";".join(
        f"{name.translate(QUOTED)}={value.translate(QUOTED)}" for name, value in values.items()
    )


def split(text: str) -> dict[str, str]:
    """The values back from :func:`join`.

    Raises:
        ValueError: an item is not ``name=value``.
    """
    pairs = [item.split("=", 1) for item in text.split(";") if item]
    return {unquote(name): unquote(value) for name, value in pairs}
