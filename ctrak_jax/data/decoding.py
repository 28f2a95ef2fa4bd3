"""One encoded picture as pixels: upright, 8 bits, over a background, of the first frame."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ctrak_jax.data.reading import read_error
from ctrak_jax.errors import StoreError, UsageError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Pillow tries these alone, whatever a file is called: some of its other readers start programs."""
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"),
    *(".heic", ".heif"),
)
"""Names of pictures end so, in any case. HEIC is not read: such a picture is refused by its name,
not passed over."""
WHITE = (255, 255, 255)
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation -> what makes the picture upright."""
Color = tuple[int, int, int]


class PictureHeader(NamedTuple):
    """What is known of a picture without decoding it.

    Attributes:
        size: width and height, upright.
        orientation: EXIF's, 1 where it is upright as stored.
        deep: has it 16 bits a channel of gray?
        see_through: has it an alpha channel or a transparent colour?
        frames: how many; the first is read.
    """

    size: tuple[int, int]
    orientation: int
    deep: bool
    see_through: bool
    frames: int

    @property
    def plain(self) -> bool:
        """Are its pixels just those of the file?"""
        return not (self.deep or self.see_through) and self.orientation == 1


@contextmanager
def readable(name: str) -> Iterator[None]:
    """What is wrong with a picture in this block is one clear line.

    Raises:
        UsageError: Pillow cannot read it.
        StoreError: the machine cannot read it now.
    """
    try:
        yield
    except (UsageError, StoreError):
        raise
    except MemoryError as error:
        raise read_error(name, error) from None
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
        said = str(error) or type(error).__name__
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "of no known format" if unknown else said.partition("\n")[0]
        raise UsageError(f"{name}: not a readable image ({reason}).") from None


def header_of(data: bytes) -> PictureHeader:
    """Look at a picture: its header and, of PNG, its checksums. One that ends early is decoded to
    find out whether pixels are missing."""
    picture = _opened(data)
    header = _header(picture, data)
    if picture.format == "PNG":
        # EXIF behind the pixels is read with them, and only what is not yet read can be verified.
        (_opened(data) if b"eXIf" in data else picture).verify()
    elif not _is_whole(data, picture.format):
        picture.load()
    _refuse_unscaled(picture)
    return header


def examined(data: bytes) -> PictureHeader:
    """:func:`header_of` a picture that is decoded, too."""
    picture = _opened(data)
    header = _header(picture, data)
    picture.load()
    _refuse_unscaled(picture)
    if picture.format == "PNG":
        _opened(data).verify()
    return header


def decoded_picture(data: bytes, side: int | None, background: Color) -> np.ndarray:
    """Pixels uint8 [H, W, 3]; with ``side``, the centred square resized to it (antialiased)."""
    picture = _opened(data)
    turn = TURNS.get(_orientation(picture, data))
    if side:
        # A JPEG is decoded at the nearest eighth that is at least twice the side.
        picture.draft("RGB", (2 * side, 2 * side))
    image = _rgb(picture, background)
    image = image if turn is None else image.transpose(turn)
    if side:
        image = ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS)
    return np.asarray(image)


def treatment(data: bytes, header: PictureHeader, background: Color) -> bytes:
    """What was done to a picture's pixels beyond decoding them; nothing, for most."""
    done = [f"upright {header.orientation}"] if header.orientation != 1 else []
    done += ["16 bits"] if header.deep else []
    if header.see_through and (header.deep or not _is_opaque(_opened(data).convert("RGBA"))):
        done.append(f"over {background}")
    return ", ".join(done).encode()


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=FORMATS)


def _header(picture: Image.Image, data: bytes) -> PictureHeader:
    orientation = _orientation(picture, data)
    width, height = picture.size
    return PictureHeader(
        size=(height, width) if orientation >= 5 else (width, height),
        orientation=orientation,
        deep=_is_deep(picture),
        see_through=picture.has_transparency_data,
        # A telephone's JPEG may hold a second view of the same: no animation.
        frames=1 if picture.format == "MPO" else getattr(picture, "n_frames", 1),
    )


def _orientation(picture: Image.Image, data: bytes) -> int:
    """EXIF's orientation; Pillow itself turns TIFF."""
    said = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"} & picture.info.keys()
    if picture.format == "TIFF" or not (said or (picture.format == "PNG" and b"eXIf" in data)):
        return 1
    found = picture.getexif().get(ORIENTATION, 1)
    return found if found in TURNS else 1


def _is_deep(picture: Image.Image) -> bool:
    return picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG")


def _refuse_unscaled(picture: Image.Image) -> None:
    """Refuse pixels whose largest value is not fixed: floating point, 32-bit integers."""
    if picture.mode == "F" or (picture.mode == "I" and not _is_deep(picture)):
        raise ValueError(f"its pixels are numbers without a scale, mode {picture.mode}")


def _is_whole(data: bytes, kind: str | None) -> bool:
    """Does a file end as its format does? False where that is not known."""
    if kind in ("JPEG", "MPO"):
        return data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")  # the end after the last scan
    if kind == "WEBP":
        return len(data) >= int.from_bytes(data[4:8], "little") + 8
    return False


def _rgb(picture: Image.Image, background: Color) -> Image.Image:
    if _is_deep(picture):
        deep = np.asarray(picture).astype(np.uint32)
        gray = ((deep * 255 + 32767) // 65535).astype(np.uint8)
        image = Image.fromarray(gray).convert("RGB")
        if "transparency" in picture.info:  # one gray, which Pillow does not convert
            image.paste(background, mask=Image.fromarray(deep == picture.info["transparency"]))
        return image
    _refuse_unscaled(picture)
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    whole = picture.convert("RGBA")
    if _is_opaque(whole):
        return picture.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", whole.size, background), whole).convert("RGB")


def _is_opaque(picture: Image.Image) -> bool:
    return picture.getchannel("A").getextrema()[0] == 255
