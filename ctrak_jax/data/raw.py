"""What a source of images gives, before anything is held out or coded."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, kw_only=True)
class RawImages:
    """Images with attribute values.

    Attributes:
        name: of the data set. images: uint8 [N, H, W, 3].
        attributes: attribute -> N values.
        vocabulary: attribute -> its values in order, where the source fixes an order.
        meta: name, licence, source and the like, as the source states them.
    """

    name: str
    images: np.ndarray
    attributes: dict[str, tuple[str, ...]]
    vocabulary: dict[str, tuple[str, ...]] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)
