"""Everything that can be wrong with a data set, looked for at once."""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from ctrak_jax import config as cfg
from ctrak_jax.data.dataset import require_fitting, survey_of
from ctrak_jax.data.decoding import PictureHeader
from ctrak_jax.data.faults import Fault
from ctrak_jax.data.looking import Looked, Record, look
from ctrak_jax.data.pictures import EncodedPictures
from ctrak_jax.data.survey import Survey
from ctrak_jax.prompts import UnfoundWords, unfound_words


class Inspection(NamedTuple):
    """What was found in a data set.

    Attributes:
        pictures: how many there are.
        sizes: how many have which width and height, upright.
        kinds: how many need more than decoding, by what.
        attributes: how many pictures have which value.
        captions: those that there are.
        unfound: those that name an attribute of ``condition_on`` in words that are not found.
        faults: all of them, in the order of the data set.
    """

    pictures: int
    sizes: Counter[tuple[int, int]]
    kinds: dict[str, int]
    attributes: dict[str, Counter[str]]
    captions: tuple[str, ...]
    unfound: tuple[UnfoundWords, ...]
    faults: tuple[Fault, ...]


def inspect(
    data: cfg.DataConfig,
    *,
    record: Record | None = None,
    workers: int | None = None,
    begin: Callable[[int], Callable[[int], Any]] = lambda total: lambda count: None,
) -> Inspection:
    """Read all labels and decode every picture of a config's data set once.

    Args:
        data: the config.
        record: see :func:`ctrak_jax.data.looking.look`; likewise ``workers``.
        begin: given the number of pictures, what is called with those looked at.

    Raises:
        UsageError: there are no files, they cannot be read at all, or the config does not fit what
            they say.
    """
    survey = survey_of(data)
    if all(fault.kind == "unread" for fault in survey.faults):
        require_fitting(data, survey)  # before all pictures are decoded
    if isinstance(survey.images, EncodedPictures):
        advance = begin(len(survey))
        looked = look(survey.images, decode=True, record=record, workers=workers, advance=advance)
    else:
        height, width = survey.images.shape[1:3]
        header = PictureHeader((width, height), 1, False, False, 1)
        looked = Looked([header] * len(survey), [])
    known = [header for header in looked.headers if header is not None]
    faults = [*survey.faults, *looked.faults]
    if not data.resize and data.kind != "celeba":
        faults += _other_sizes(survey, looked)
    conditioning = {
        name: values for name, values in survey.attributes.items() if name in data.condition_on
    }
    return Inspection(
        pictures=len(survey),
        sizes=Counter(header.size for header in known),
        kinds={
            "turned by EXIF": sum(header.orientation != 1 for header in known),
            "16 bits": sum(header.deep for header in known),
            "with transparency": sum(header.see_through for header in known),
            "with several frames": sum(header.frames > 1 for header in known),
        },
        attributes={
            name: Counter(value for value in values if value is not None)
            for name, values in survey.attributes.items()
        },
        captions=tuple(text for text in survey.captions or () if text is not None),
        unfound=tuple(unfound_words(conditioning, survey.captions)) if survey.captions else (),
        faults=tuple(sorted(faults, key=lambda f: -1 if f.row is None else f.row)),
    )


def _other_sizes(survey: Survey, looked: Looked) -> list[Fault]:
    """Pictures of another size than the first, where none are resized."""
    sizes = [None if header is None else header.size for header in looked.headers]
    first = next((size for size in sizes if size is not None), None)
    return [
        Fault(
            survey.names(row),
            f"is {size[0]} x {size[1]} pixels, the first image is {first[0]} x {first[1]}",
            "size",
            row,
        )
        for row, size in enumerate(sizes)
        if size is not None and first is not None and size != first
    ]
