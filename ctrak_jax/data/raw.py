"""What a source of images gives, before anything is held out or encoded."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ctrak_jax.data.pictures import Pictures

Images = np.ndarray | Pictures
"""Images by dataset index, uint8 [N, H, W, 3]: in memory, mapped, or decoded when indexed."""


@dataclass(frozen=True, kw_only=True)
class RawImages:
    """Images with attribute values.

    Attributes:
        name: of the data set.
        images: uint8 [N, H, W, 3].
        attributes: attribute -> N values.
        prompts: N captions, or none at all.
        vocabulary: attribute -> its values in order, where the source fixes an order.
        meta: name, licence, source and the like, as the source states them.
    """

    name: str
    images: Images
    attributes: dict[str, tuple[str, ...]]
    prompts: tuple[str, ...] = ()
    vocabulary: dict[str, tuple[str, ...]] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
