"""What shards hold, whatever their form: pictures by row, with attributes and captions."""

import json
from typing import Any, NamedTuple

from ctrak_jax.data.pictures import EncodedPictures


class Shards(NamedTuple):
    """What shards hold, by row; attributes and captions may be none."""

    encoded: EncodedPictures
    attributes: dict[str, tuple[str, ...]]
    prompts: tuple[str, ...]


def as_text(value: Any) -> str:
    """A text, number or truth value as the text of an attribute."""
    return value if isinstance(value, str) else json.dumps(value)


def line(caption: str) -> str:
    """A caption in one line."""
    return " ".join(caption.split())
