"""What a source of images gives, before anything is held out or encoded."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ctrak_jax.data.faults import Fault
from ctrak_jax.data.pictures import Pictures

Images = np.ndarray | Pictures
"""Images by dataset index, uint8 [N, H, W, 3]: in memory, mapped, or decoded when indexed."""


@dataclass(frozen=True, kw_only=True)
class RawImages:
    """Images with attribute values: N of each attribute, and N captions or none at all.

    ``vocabulary`` lists an attribute's values in order, where the source fixes an order; ``meta``
    is what the source states: name, licence, source and the like. ``skipped`` is what was left out.
    ``partial`` are further columns, with None where an image has no value.
    """

    name: str
    images: Images
    attributes: dict[str, tuple[str, ...]]
    prompts: tuple[str, ...] = ()
    vocabulary: dict[str, tuple[str, ...]] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    skipped: tuple[Fault, ...] = ()
    partial: dict[str, tuple[str | None, ...]] = field(default_factory=dict)
