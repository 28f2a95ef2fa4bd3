"""What is in a folder of images: how many, how large, and what is said of them."""

from collections import Counter
from pathlib import Path
from typing import Literal, NamedTuple

from ctrak_jax.data.celeba import LAYOUTS, read_celeba
from ctrak_jax.data.folder import read_folder
from ctrak_jax.data.pictures import Pictures
from ctrak_jax.errors import UsageError

ANY_SIDE = 8
"""Opens pictures of several sizes; nothing is decoded."""


class Attribute(NamedTuple):
    """An attribute: its values by image. An empty one is missing."""

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
    """Look at a folder as the runs will read it.

    Raises:
        UsageError: there is no such folder, no image, neither attributes nor captions, or something
            in it cannot be read.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{folder}: no such folder; give the folder of your images, with attributes.csv "
            "(index,style,...) or prompts.txt."
        )
    celeba = any((folder / layout.table).is_file() for layout in LAYOUTS)
    if celeba:
        raw = read_celeba(folder, side=ANY_SIDE)
    else:
        array = (folder / "images.npy").exists()
        raw = read_folder(folder, side=None if array else ANY_SIDE)
    if isinstance(raw.images, Pictures):
        sizes = raw.images.sizes()
    else:
        count, height, width, _ = raw.images.shape
        sizes = Counter({(width, height): count})
    if not sizes.total():
        raise UsageError(f"{folder}: holds no image.")
    return Facts(
        folder=folder,
        kind="celeba" if celeba else "folder",
        sizes=sizes,
        resizable=isinstance(raw.images, Pictures),
        columns=tuple(Attribute(name, values) for name, values in raw.attributes.items()),
        captions=raw.prompts if any(raw.prompts) else (),
    )
