"""What is in a folder of images: how many, how large, and what is said of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from ctrak_jax.data.celeba import LAYOUTS, survey_celeba
from ctrak_jax.data.faults import Fault, refuse
from ctrak_jax.data.folder.reader import survey_folder
from ctrak_jax.data.pictures import Pictures
from ctrak_jax.data.survey import Handling, Survey, settle
from ctrak_jax.errors import UsageError

ANY_SIDE = 8
"""Opens pictures of several sizes; nothing is decoded."""


class Attribute(NamedTuple):
    """An attribute: its values by image, empty where one is missing."""

    name: str
    values: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Images by value, the most frequent first, ties by value; without the missing ones."""
        found = Counter(value for value in self.values if value)
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    @property
    def missing(self) -> int:
        return len(self.values) - sum(self.counts.values())


def combinations_of(columns: Sequence[Attribute]) -> Counter[tuple[str, ...]]:
    """Images by their values of all these attributes, without those that lack one."""
    every = zip(*(column.values for column in columns), strict=True)
    return Counter(values for values in every if all(values))


class Facts(NamedTuple):
    """What is known of a folder.

    Attributes:
        kind: of ``data.kind``.
        sizes: how many images have which width and height.
        resizable: can images be cropped and resized when they are read?
        captions: one per image, or none at all.
    """

    folder: Path
    kind: Literal["folder", "celeba"]
    sizes: Counter[tuple[int, int]]
    resizable: bool
    columns: tuple[Attribute, ...]
    captions: tuple[str, ...]

    @property
    def pictures(self) -> int:
        return self.sizes.total()

    @property
    def name(self) -> str:
        return self.folder.resolve().name


def look(folder: Path) -> Facts:
    """Look at a folder as the runs will read it. An image may lack a value of some attributes.

    Raises:
        UsageError: there is no such folder, no image, neither attributes nor captions, something
            in it cannot be read, or an image lacks its caption or all attributes.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{folder}: no such folder; give the folder of your images, with attributes.csv "
            "(index,style,...) or prompts.txt."
        )
    celeba = any((folder / layout.table).is_file() for layout in LAYOUTS)
    array = not celeba and (folder / "images.npy").exists()
    if celeba:
        survey = survey_celeba(folder, side=ANY_SIDE)
    else:
        survey = survey_folder(folder, resize=not array)
    refuse([fault for fault in survey.faults if not _may_lack(survey, fault)])
    alone = replace(survey, attributes={}, captions=None, faults=())
    images = settle(alone, Handling(side=None if array else ANY_SIDE)).images
    if isinstance(images, Pictures):
        sizes = images.sizes()
    else:
        count, height, width, _ = images.shape
        sizes = Counter({(width, height): count})
    if not sizes.total():
        raise UsageError(f"{folder}: holds no image.")
    captions = tuple(text for text in survey.captions or () if text is not None)
    return Facts(
        folder=folder,
        kind="celeba" if celeba else "folder",
        sizes=sizes,
        resizable=not array,
        columns=tuple(
            Attribute(name, tuple(value or "" for value in values))
            for name, values in survey.attributes.items()
        ),
        captions=captions if any(captions) else (),
    )


def _may_lack(survey: Survey, fault: Fault) -> bool:
    """Does an image lack values of some attributes, and nothing else; or is a file not read?"""
    row = fault.row
    if fault.kind == "unread":
        return True
    if row is None or fault.kind != "incomplete":
        return False
    captioned = survey.captions is None or survey.captions[row] is not None
    return captioned and any(values[row] is not None for values in survey.attributes.values())
