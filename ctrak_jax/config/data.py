"""The training images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ctrak_jax.config.base import DISTINCT, Natural, Section, Seed

Byte = Annotated[int, Field(ge=0, le=255)]


class DataConfig(Section):
    """The training images."""

    kind: Literal["synthetic", "folder", "celeba", "abc"] = "synthetic"
    """Drawn shapes, a folder of images and attributes, the files of CelebA-HQ or CelebA, or those
    of the AbC benchmark (`ctrak abc`)."""
    path: Path | None = None
    """The folder (folder, celeba, abc)."""
    size: Natural = 2000
    """Images drawn, held-out ones included (synthetic)."""
    image_size: int = Field(default=16, ge=8)
    """Side of the drawn or resized images in pixels (synthetic, celeba, and folder if resized)."""
    resize: bool = False
    """Crop each image to its centred square and resize it to image_size (folder of image files;
    celeba always)."""
    shapes: tuple[str, ...] = ("triangle", "circle")
    """Shapes drawn (synthetic)."""
    colors: tuple[str, ...] = ("red", "blue")
    """Colours drawn (synthetic)."""
    objects: Literal[1, 2] = 1
    """Shapes in each picture (synthetic). Two have two colours and do not overlap; the values of
    their attributes are pairs, such as triangle+circle and red+blue."""
    seed: Seed = 0
    """Seed of the drawn images (synthetic)."""
    condition_on: Annotated[tuple[str, ...], DISTINCT] = ("shape", "color")
    """Attributes that make up the condition, in order; queries ask about them. A text-to-image
    model is conditioned on captions and may have none."""
    candidates: Natural | None = None
    """Training images that are scored, drawn at random; empty for all of them."""
    order: Literal["file", "random"] = "random"
    """Which of LAION's rows data.candidates takes: the first in the order of the file, as
    published, or some drawn at random (abc)."""
    decoys: Natural = 10
    """LAION rows that are decoys of each customised model, drawn among those that are no candidates
    (controls: decoys; abc)."""
    customised: Literal["auto", "listed", "ti"] = "auto"
    """Where customised models and their images are: in models and synth, as the tasks list them, or
    in models-ti and synth-ti, of textual inversion alone; auto: in these where they are there
    (abc)."""
    incomplete: Literal["refuse", "skip"] = "refuse"
    """A picture without its row, a value or its caption, or a row without its picture: refuse the
    data set, or leave the sample out; skipped.csv lists what was left out (folder, celeba)."""
    bad_pictures: Literal["refuse", "skip"] = "refuse"
    """Unreadable pictures: refuse the data set at a look at every header, or decode every picture
    before anything else and leave the unreadable ones out (folder, celeba)."""
    background: tuple[Byte, Byte, Byte] = (255, 255, 255)
    """What shows through transparent pixels: red, green and blue, 0 to 255 (folder, celeba)."""
    hold_out: tuple[dict[str, str], ...] = ()
    """Combinations of values kept out of training: the out-of-distribution queries."""

    unlabelled: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(default={})
    """Attribute -> the share of every value's carriers whose value the model never sees: null in
    the condition, and the words for it cut out of the caption, in training and in featurization."""

    @property
    def mentioned(self) -> tuple[str, ...]:
        """The attributes that these settings name."""
        held_out = (name for combination in self.hold_out for name in combination)
        return tuple(dict.fromkeys((*self.condition_on, *held_out, *self.unlabelled)))

    def problems(self) -> Iterator[str]:
        if self.kind != "synthetic" and self.path is None:
            yield f"data.kind={self.kind} needs data.path, the folder of the data set"
