"""Every kind of image file is read as documented: its pixels, upright, from any source."""

import io
import struct

import numpy as np
import pytest
import simplejpeg
from picture_files import GREY, GREY16, HEIGHT, JPEG, PHOTO, READABLE, RGB, WIDTH, encode, needs_avif, photo
from PIL import Image, ImageOps

from jaxiqa.inputs.decode import image_size, read_image


@pytest.mark.parametrize("kind", READABLE)
def test_documented_pixels(kind):
    data, expected, tolerance = READABLE[kind]
    pixels = read_image(data)
    expected = np.asarray(expected, np.float64)
    assert pixels.dtype == np.uint8 and pixels.shape == expected.shape
    assert pixels.flags.c_contiguous and pixels.flags.writeable
    assert np.abs(pixels - expected).max() <= tolerance
    assert image_size(data) == pixels.shape[:2]


@needs_avif
def test_avif():
    data = encode(RGB, "AVIF", quality=100, subsampling="4:4:4")
    assert np.abs(read_image(data).astype(int) - PHOTO).max() <= 4
    assert image_size(data) == (HEIGHT, WIDTH)


def test_jpeg_is_decoded_accurately():
    smooth = Image.fromarray(photo(200, 300))
    data = encode(smooth, "JPEG", quality=80)
    exact = np.asarray(Image.open(io.BytesIO(data)))
    fast = simplejpeg.decode_jpeg(data, fastdct=True, fastupsample=True)
    assert (read_image(data) == exact).all()
    assert (fast != exact).any()  # or the line above proves nothing


def test_16_bit_is_not_saturated():
    """Pillow's own conversion of 16-bit grey clips at 255: nearly white everywhere."""
    data = encode(GREY16, "PNG")
    assert abs(read_image(data).mean() - np.asarray(GREY).mean()) < 0.01
    assert np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).mean() > 240


# --- orientation ------------------------------------------------------------------------------------------------------


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG", pytest.param("AVIF", marks=needs_avif)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(kind, orientation):
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100}, "AVIF": {"quality": 100}}.get(kind, {})
    data = encode(RGB, kind, exif=exif(orientation), **options)
    plain = encode(RGB, kind, **options)
    upright = Image.fromarray(read_image(plain))
    upright.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(upright))
    pixels = read_image(data)
    assert pixels.shape == expected.shape and (pixels == expected).all()
    assert pixels.flags.c_contiguous and pixels.flags.writeable
    assert image_size(data) == pixels.shape[:2] == ((WIDTH, HEIGHT) if orientation >= 5 else (HEIGHT, WIDTH))


def test_eight_stored_forms_of_one_image_are_one_image():
    undo = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
    for orientation in range(1, 9):
        stored = Image.fromarray(PHOTO)
        stored.getexif()[0x0112] = undo.get(orientation, 1)
        stored = ImageOps.exif_transpose(stored)
        assert (read_image(encode(stored, "PNG", exif=exif(orientation))) == PHOTO).all()


@pytest.mark.parametrize(
    "damage", [b"", b"XX", b"II*\0\xff\xff\xff\xff", exif(6)[6:20], exif(6).replace(b"\6", b"\x63")]
)
def test_unreadable_exif_leaves_the_image_as_it_is(damage):
    data = encode(RGB, "JPEG", quality=95)
    body = b"Exif\0\0" + damage
    marked = data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    assert (read_image(marked) == read_image(data)).all()


# --- sources ----------------------------------------------------------------------------------------------------------


def test_path_bytes_and_file_object_are_the_same_image(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(JPEG)
    expected = simplejpeg.decode_jpeg(JPEG)
    with open(path, "rb") as file:
        sources = [path, str(path), JPEG, bytearray(JPEG), memoryview(JPEG), io.BytesIO(JPEG), file]
        assert all((read_image(source) == expected).all() for source in sources)
    with open(path, "rb") as file:
        assert image_size(file) == (120, 160)
