"""Where an attribute is in a drawn picture: the pixels that change when it is drawn again with
another value.

Of shapes, the fill is the colour's, and the outline and what differs between shapes is the
shape's. Avatars keep their seed. In another style an avatar is another picture, so style has no
region.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ctrak_jax.data import Dataset, avatars, synthetic
from ctrak_jax.data.avatars import draw as drawing
from ctrak_jax.errors import UsageError

Values = Mapping[str, str]
Draw = Callable[[Values], np.ndarray]
"""One picture, uint8 [height, width, 3], with any values."""

CHANGED = drawing.CHANGED
"""Largest difference of a channel, of 255, above which a pixel has changed."""
WHOLE = ("style",)
"""Attributes that no region can be drawn of."""
BEYOND = 1_000_000
"""Numbers of pictures that no data set holds."""


def region(draw: Draw, values: Values, attribute: str, known: tuple[str, ...]) -> np.ndarray:
    """The pixels that change with an attribute, under any other of its known values: bool
    [height, width]."""
    picture = draw(values).astype(int)
    others = [draw({**values, attribute: v}) for v in known if v != values[attribute]]
    return np.any([np.abs(picture - other).max(-1) > CHANGED for other in others], axis=0)


@dataclass(frozen=True, kw_only=True)
class Drawings:
    """The pictures of a drawn data set, and how to draw them again.

    Attributes:
        data: the data set.
        seed: of its drawing.
        per_combination: pictures of each combination of avatars; None for shapes.
    """

    data: Dataset
    seed: int
    per_combination: int | None = None
    _regions: dict[tuple[int, str], np.ndarray] = field(default_factory=dict)

    @property
    def attributes(self) -> list[str]:
        """What regions can be drawn of."""
        return [name for name in self.data.conditions.attributes if name not in WHOLE]

    def hand(self, values: Values, number: int) -> Draw:
        """What draws the ``number``-th picture labelled with some values, with any others."""
        side = self.data.image_shape[0]
        if self.per_combination is None:
            place = synthetic.place_of(self.seed, number)
            return lambda drawn: synthetic.draw(drawn["shape"], drawn["color"], place, side)
        seed = drawing.checked_seed(values, number, self.seed)
        return lambda drawn: drawing.draw(drawn, seed, side)

    def values(self, index: int) -> dict[str, str]:
        """The values of a picture of the data set."""
        return {name: str(column[index]) for name, column in self.data.raw.attributes.items()}

    def region(self, index: int, attribute: str) -> np.ndarray:
        """Of a picture of the data set: bool [height, width].

        Raises:
            UsageError: the picture is not what is drawn again.
        """
        key = index, attribute
        if key not in self._regions:
            values = self.values(index)
            number = index if self.per_combination is None else index % self.per_combination
            draw = self.hand(values, number)
            if not np.array_equal(draw(values), self.data.raw.images[index]):
                raise UsageError(f"image {index} of the data set is drawn otherwise here.")
            self._regions[key] = self._of(draw, values, attribute)
        return self._regions[key]

    def new(self, values: Values, number: int, attribute: str) -> tuple[np.ndarray, np.ndarray]:
        """A picture with some values that the data set does not hold, and its region."""
        draw = self.hand(values, BEYOND + number)
        return draw(values), self._of(draw, values, attribute)

    def _of(self, draw: Draw, values: Values, attribute: str) -> np.ndarray:
        return region(draw, values, attribute, self.data.conditions.vocabulary[attribute])


def drawings(data: Dataset, seed: int) -> Drawings:
    """The drawings of a data set of shapes or avatars.

    Args:
        data: the data set.
        seed: what shapes are drawn with (``data.seed``); avatars say theirs.

    Raises:
        UsageError: it is neither.
    """
    made_by = data.raw.meta.get("drawn_by", {})
    if data.raw.name == "synthetic shapes":
        return Drawings(data=data, seed=seed)
    if set(data.raw.attributes) >= set(avatars.ATTRIBUTES) and "per_combination" in made_by:
        return Drawings(data=data, **{k: made_by[k] for k in ("seed", "per_combination")})
    raise UsageError(f"{data.raw.name}: regions are known of drawn shapes and avatars alone.")
