"""One picture as pixels: upright, 8 bits, over a background, of its first frame."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ctrak_jax.data.decoding import WHITE, decoded_picture, examined, header_of, readable, treatment
from ctrak_jax.data.pictures import Files, Pictures
from ctrak_jax.errors import UsageError


def saved(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def read(data: bytes, side: int | None = None, background=WHITE) -> np.ndarray:
    return decoded_picture(data, side, background)


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    whole = kind + body
    return struct.pack(">I", len(body)) + whole + struct.pack(">I", zlib.crc32(whole))


UPRIGHT = np.zeros((16, 24, 3), np.uint8)
UPRIGHT[:8, :12] = (255, 0, 0)
UPRIGHT[:8, 12:] = (0, 255, 0)
UPRIGHT[8:, :12] = (0, 0, 255)
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}
"""Orientation -> how an upright picture is stored (EXIF 2.3, table 6)."""


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_turned_picture_comes_upright(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](UPRIGHT)))
    options = {"quality": 100} if kind != "TIFF" else {}
    options |= {"subsampling": 0} if kind == "JPEG" else {}
    options |= {"lossless": True} if kind == "WEBP" else {}
    data = saved(stored, kind, exif=exif, **options)
    assert header_of(data).size == examined(data).size == (24, 16)
    np.testing.assert_allclose(read(data).astype(int), UPRIGHT, atol=3)
    square = read(data, 8)
    assert square[1, 1].argmax() == 0
    assert square[1, 6].argmax() == 1
    assert square[6, 1].argmax() == 2


def test_a_turn_that_stands_after_the_pixels_of_a_png_is_found():
    data = saved(Image.fromarray(np.rot90(UPRIGHT).copy()))
    exif = Image.Exif()
    exif[0x0112] = 6
    piece = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    end = data.rindex(b"IEND") - 4
    data = data[:end] + piece + data[end:]
    assert header_of(data).orientation == 6
    np.testing.assert_array_equal(read(data), UPRIGHT)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_become_8_by_their_share_of_white(kind):
    deep = np.linspace(0, 65535, 24 * 24).astype(np.uint16).reshape(24, 24)
    data = saved(Image.fromarray(deep), kind)
    assert header_of(data).deep
    expected = np.round(deep / 257.0)
    np.testing.assert_array_equal(read(data)[..., 0], expected)
    np.testing.assert_array_equal(read(data)[..., 2], expected)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_numbers_without_a_scale_are_refused(mode):
    data = saved(Image.fromarray(np.full((8, 8), 7, np.int32)).convert(mode), "TIFF")
    for look in (header_of, examined, read):
        words = f"a.tif: not a readable image.*mode {mode}"
        with pytest.raises(UsageError, match=words), readable("a.tif"):
            look(data)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_transparent_pixels_show_the_background(mode):
    """Left half transparent, right half 60 gray."""
    gray = np.full((8, 8, 4), 60, np.uint8)
    gray[..., 3] = 255
    gray[:, :4, 3] = 0
    image = Image.fromarray(gray)
    if mode == "P":  # a palette with one transparent colour
        palette = Image.new("P", (8, 8), 1)
        palette.putpalette([9, 9, 9, 60, 60, 60])
        palette.paste(0, (0, 0, 4, 8))
        data = saved(palette, transparency=0)
    else:
        data = saved(image.convert(mode) if mode != "PA" else image.convert("RGBA").quantize())
    assert header_of(data).see_through
    for background in (WHITE, (0, 200, 30)):
        found = read(data, background=background)
        assert (found[:, :4] == background).all()
        assert (found[:, 4:] == 60).all()


def test_one_gray_of_16_bits_may_be_transparent():
    deep = np.full((8, 8), 257 * 60, np.uint16)
    deep[:, :4] = 1000
    data = saved(Image.fromarray(deep), transparency=1000)
    found = read(data, background=(0, 200, 30))
    assert (found[:, :4] == (0, 200, 30)).all()
    assert (found[:, 4:] == 60).all()
    assert b"over (0, 200, 30)" in treatment(data, header_of(data), (0, 200, 30))


def test_half_transparent_pixels_are_mixed():
    data = saved(Image.new("RGBA", (4, 4), (0, 100, 200, 51)))  # a fifth
    np.testing.assert_allclose(read(data)[0, 0], [204, 224, 244], atol=1)


def test_an_opaque_alpha_channel_changes_nothing():
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    data = saved(Image.fromarray(noise).convert("RGBA"))
    np.testing.assert_array_equal(read(data), noise)
    assert treatment(data, header_of(data), WHITE) == b""


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "YCbCr"])
def test_other_modes_are_rgb(mode):
    image = Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode)
    kind = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
    assert (read(saved(image, kind)) == 255).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_several_frames_the_first_is_read(kind):
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (200, 10, 60)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert header_of(data).frames == 3
    np.testing.assert_allclose(read(data)[4, 4], [200, 0, 0], atol=1)


NOISE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_look_at_the_header_finds_a_picture_cut_off(kind, share):
    data = saved(NOISE, kind)
    header_of(data)
    with pytest.raises(UsageError, match=r"x: not a readable image"), readable("x"):
        header_of(data[: int(share * len(data))])


def test_the_thumbnail_of_a_cut_off_jpeg_is_not_its_end():
    """A thumbnail is a whole JPEG in the EXIF header."""
    thumbnail = saved(NOISE.resize((8, 8)), "JPEG")
    data = saved(NOISE, "JPEG", comment=thumbnail)
    header_of(data)
    with pytest.raises(OSError, match="runcated"):
        header_of(data[: len(data) - 200])


def test_bytes_behind_the_end_of_a_jpeg_do_not_matter():
    """Cameras append previews and padding."""
    data = saved(NOISE, "JPEG")
    for more in (b"\0" * 900, b"\xff\xda" + bytes(range(200))):
        assert header_of(data + more).size == (64, 64)
        np.testing.assert_array_equal(read(data + more), read(data))


def test_no_other_reader_of_pillow_is_started(tmp_path):
    """Encapsulated PostScript would be handed to Ghostscript."""
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    (tmp_path / "a.png").write_bytes(program)
    with pytest.raises(UsageError, match=r"a\.png: not a readable image"):
        Pictures(Files([tmp_path / "a.png"]), side=8).headers  # noqa: B018


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"")
    (tmp_path / "a.png").write_bytes(png)
    with pytest.raises(UsageError, match="decompression bomb"):
        Pictures(Files([tmp_path / "a.png"]), side=8).headers  # noqa: B018


def fingerprint_of(tmp_path, data: bytes, **options) -> bytes:
    (tmp_path / "a.png").write_bytes(data)
    return b"".join(Pictures(Files([tmp_path / "a.png"]), **options).content())


def test_the_content_of_plain_pictures_is_their_bytes_and_of_others_says_what_was_done(tmp_path):
    plain = saved(NOISE)
    assert fingerprint_of(tmp_path, plain) == b"None" + plain
    assert fingerprint_of(tmp_path, plain, side=8) == b"8" + plain
    clear = saved(Image.new("RGBA", (8, 8)))
    found = {fingerprint_of(tmp_path, clear, background=c) for c in (WHITE, (0, 0, 0))}
    assert len(found) == 2
    assert b"None" + clear not in found
    turned = saved(NOISE, exif=b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
    assert fingerprint_of(tmp_path, turned) == b"None" + turned + b"upright 6"
