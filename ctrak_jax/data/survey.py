"""A data set as it was found, and what becomes of what is wrong with it.

Readers survey: pictures, labels, faults, without a decision. :func:`settle` then looks at the
header of every picture and refuses the set, or leaves samples out, as the config says.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ctrak_jax.data.decoding import WHITE, Color, PictureHeader
from ctrak_jax.data.faults import Fault, refuse
from ctrak_jax.data.looking import Looked, Record, look
from ctrak_jax.data.pictures import EncodedPictures, PictureRows, Pictures
from ctrak_jax.data.raw import RawImages
from ctrak_jax.errors import UsageError
from ctrak_jax.log import logger

Policy = Literal["refuse", "skip"]


@dataclass(frozen=True, kw_only=True)
class Handling:
    """What a config says of reading.

    Attributes:
        side: crops pictures to their centred square and resizes them; None takes them as they are.
        background: what shows through transparent pixels.
        incomplete: what becomes of pictures without their row or caption, and of rows without their
            picture.
        bad_pictures: what becomes of unreadable pictures; ``skip`` decodes all of them at once.
    """

    side: int | None = None
    background: Color = WHITE
    incomplete: Policy = "refuse"
    bad_pictures: Policy = "refuse"


@dataclass(frozen=True, kw_only=True)
class Survey:
    """A data set as it was found.

    Attributes:
        images: an array uint8 [N, H, W, 3], or encoded pictures.
        names: what an error calls a picture.
        attributes: N values of each; None where one is missing.
        captions: N captions, or none at all; likewise.
        partial: further columns, with None where a picture that is complete has no value.
        faults: of rows, labels and names; the pictures themselves have not been looked at.
    """

    name: str
    images: np.ndarray | EncodedPictures
    names: Callable[[int], str]
    attributes: dict[str, list[str | None]]
    captions: list[str | None] | None = None
    faults: Sequence[Fault] = ()
    vocabulary: dict[str, tuple[str, ...]] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    partial: dict[str, list[str | None]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)


def settle(
    survey: Survey,
    handling: Handling,
    *,
    looked: Looked | None = None,
    record: Record | None = None,
) -> RawImages:
    """The data set that a survey found.

    Args:
        survey: what was found.
        handling: what becomes of faults.
        looked: what a look at all of its pictures found, where there has been one.
        record: of a look that decodes all pictures.

    Raises:
        UsageError: it has a fault that is not to be skipped, or nothing is left; one line.
    """
    refuse([fault for fault in survey.faults if fault.kind == "conflict"])
    incomplete = [fault for fault in survey.faults if fault.kind == "incomplete"]
    if handling.incomplete == "refuse":
        refuse(incomplete)
    without = {fault.row for fault in incomplete}
    kept = [row for row in range(len(survey)) if row not in without]
    if isinstance(survey.images, np.ndarray):
        images, bad = (survey.images[kept] if without - {None} else survey.images), []
    else:
        encoded = survey.images if len(kept) == len(survey) else PictureRows(survey.images, kept)
        if looked is None:
            decode = handling.bad_pictures == "skip"
            looked = look(encoded, decode=decode, record=record if decode else None)
        else:
            looked = looked.of(kept)
        bad = [fault._replace(row=kept[fault.row or 0]) for fault in looked.faults]
        if handling.bad_pictures == "refuse":
            refuse(bad)
        good = [place for place, header in enumerate(looked.headers) if header is not None]
        kept = [kept[place] for place in good]
        images = _pictures(encoded, looked.headers, good, handling) if good else None
    skipped = (*incomplete, *bad)
    if images is None or not kept:
        why = f": {skipped[0].name}: {skipped[0].reason}" if skipped else ""
        raise UsageError(f"{survey.name}: no image is left{why}; look at it by ctrak data check.")
    if skipped:
        logger.warning(
            "%d samples or rows are left out, the first: %s: %s", len(skipped), *skipped[0][:2]
        )
    captions = survey.captions
    return RawImages(
        name=survey.name,
        images=images,
        attributes={
            name: tuple(_said(values[row]) for row in kept)
            for name, values in survey.attributes.items()
        },
        prompts=() if captions is None else tuple(_said(captions[row]) for row in kept),
        vocabulary=survey.vocabulary,
        meta=survey.meta,
        skipped=skipped,
        partial={
            name: tuple(values[row] for row in kept) for name, values in survey.partial.items()
        },
    )


def _pictures(
    encoded: EncodedPictures,
    headers: Sequence[PictureHeader | None],
    good: Sequence[int],
    handling: Handling,
) -> Pictures:
    """The readable pictures; says what is read of those with several frames."""
    whole = len(good) == len(headers)
    chosen = encoded if whole else PictureRows(encoded, good)
    known = [header for header in headers if header is not None]
    moving = [place for place, header in enumerate(known) if header.frames > 1]
    if moving:
        first = chosen.name(moving[0])
        line = "%d pictures have several frames, the first of each is used: %s"
        logger.info(line, len(moving), first)
    return Pictures(chosen, side=handling.side, background=handling.background, headers=known)


def _said(value: str | None) -> str:
    assert value is not None, "samples without a value are left out before"
    return value
