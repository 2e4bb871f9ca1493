"""Small image files of every format, made in memory, and their pixels."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF decoder")

HEIGHT, WIDTH = 40, 60


def photo(height=HEIGHT, width=WIDTH) -> np.ndarray:
    """A smooth image with a little noise, without symmetry, with different channels."""
    y, x = np.mgrid[0:height, 0:width]
    smooth = np.stack([128 + 100 * np.sin(x / 17), 128 + 100 * np.cos(y / 13), 2 * x + y], -1)
    return (smooth + np.random.default_rng(0).normal(0, 3, smooth.shape)).clip(0, 255).astype(np.uint8)


PHOTO = photo()
RGB = Image.fromarray(PHOTO)
GREY = RGB.convert("L")
GREY_PIXELS = np.repeat(np.asarray(GREY)[..., None], 3, 2)
PIXEL_0_0 = GREY_PIXELS[0, 0]
GREY16 = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257)
ALPHA = Image.fromarray(np.dstack([PHOTO, np.tile(np.arange(WIDTH, dtype=np.uint8) * 4, (HEIGHT, 1))]))
COMPOSITED = (PHOTO * (np.asarray(ALPHA)[..., 3:] / 255) + 128 * (1 - np.asarray(ALPHA)[..., 3:] / 255)).round()


def encode(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


BIG = Image.fromarray(photo(120, 160))
JPEG, PNG = encode(BIG, "JPEG", quality=90), encode(BIG, "PNG")
CMYK = Image.fromarray(np.dstack([255 - PHOTO, np.full((HEIGHT, WIDTH), 51, np.uint8)]), "CMYK")
DARKENED = PHOTO * (204 / 255)

# kind -> (file, expected pixels, tolerance)
READABLE = {
    "jpeg": (encode(RGB, "JPEG", quality=100, subsampling=0), PHOTO, 5),
    "progressive jpeg": (encode(RGB, "JPEG", quality=100, subsampling=0, progressive=True), PHOTO, 5),
    "grey jpeg": (encode(GREY, "JPEG", quality=100), GREY_PIXELS, 2),
    "cmyk jpeg": (encode(CMYK, "JPEG", quality=100), DARKENED, 4),
    "mpo": (encode(RGB, "MPO", quality=100, subsampling=0, save_all=True, append_images=[GREY]), PHOTO, 5),
    "jpeg with an appendix": (encode(RGB, "JPEG", quality=100, subsampling=0) + b"\0\0\0 ftypmp42", PHOTO, 5),
    "png": (encode(RGB, "PNG"), PHOTO, 0),
    "png, appendix": (encode(RGB, "PNG") + b"garbage", PHOTO, 0),
    "webp": (encode(RGB, "WEBP", lossless=True), PHOTO, 0),
    "bmp": (encode(RGB, "BMP"), PHOTO, 0),
    "gif": (encode(GREY, "GIF"), GREY_PIXELS, 0),
    "ppm": (encode(RGB, "PPM"), PHOTO, 0),
    "jpeg 2000": (encode(RGB, "JPEG2000"), PHOTO, 0),
    "jpeg 2000 stream": (encode(RGB, "JPEG2000", no_jp2=True), PHOTO, 0),
    "tiff": (encode(RGB, "TIFF"), PHOTO, 0),
    "tiff lzw": (encode(RGB, "TIFF", compression="tiff_lzw"), PHOTO, 0),
    "tiff deflate": (encode(RGB, "TIFF", compression="tiff_adobe_deflate"), PHOTO, 0),
    "cmyk tiff": (encode(CMYK, "TIFF"), DARKENED, 1),
    "grey png": (encode(GREY, "PNG"), GREY_PIXELS, 0),
    "palette png": (encode(GREY.convert("P"), "PNG"), GREY_PIXELS, 0),
    "1-bit png": (png(2, 1, 1, 0, b"\0\x40"), [[[0] * 3, [255] * 3]], 0),
    "4-bit png": (png(2, 1, 4, 0, b"\0\x1f"), [[[17] * 3, [255] * 3]], 0),
    "16-bit grey png": (encode(GREY16, "PNG"), GREY_PIXELS, 0),
    "16-bit grey levels": (png(3, 1, 16, 0, b"\0\x00\x80\x00\x81\xff\xff"), [[[0] * 3, [1] * 3, [255] * 3]], 0),
    "16-bit rgb png": (png(2, 1, 16, 2, b"\0" + bytes([9, 9, 70, 70, 255, 255, 9, 255, 70, 0, 0, 0])),
                       [[[9, 70, 255], [9, 70, 0]]], 0),
    "16-bit grey tiff": (encode(GREY16, "TIFF"), GREY_PIXELS, 0),
    "16-bit pgm": (encode(GREY16, "PPM"), GREY_PIXELS, 0),
    "10-bit pgm": (b"P5 2 1 1023\n" + struct.pack(">2H", 1023, 512), [[[255] * 3, [128] * 3]], 0),
    "16-bit jpeg 2000": (encode(GREY16, "JPEG2000"), GREY_PIXELS, 0),
    "float tiff": (encode(Image.fromarray(np.asarray(GREY).astype(np.float32) / 255), "TIFF"), GREY_PIXELS, 0),
    "rgba png": (encode(ALPHA, "PNG"), COMPOSITED, 1),
    "rgba webp": (encode(ALPHA, "WEBP", lossless=True, exact=True), COMPOSITED, 1),
    "rgba tiff": (encode(ALPHA, "TIFF"), COMPOSITED, 1),
    "la png": (encode(Image.merge("LA", [GREY, Image.new("L", GREY.size, 0)]), "PNG"), np.full_like(PHOTO, 128), 0),
    "transparent colour png": (png(2, 1, 8, 2, b"\0\1\2\3\4\5\6", chunk(b"tRNS", b"\0\1\0\2\0\3")),
                               [[[128] * 3, [4, 5, 6]]], 0),
    "transparent palette gif": (encode(GREY.convert("P"), "GIF", transparency=int(GREY.getpixel((0, 0)))),
                                np.where(PIXEL_0_0 == GREY_PIXELS, 128, GREY_PIXELS), 0),
    "1x1": (encode(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG"), [[[1, 2, 3]]], 0),
    "1x1 jpeg": (encode(Image.new("L", (1, 1), 77), "JPEG", quality=100), [[[77] * 3]], 1),
    "1x3000": (encode(Image.new("RGB", (3000, 1), (1, 2, 3)), "PNG"), np.tile(np.uint8([1, 2, 3]), (1, 3000, 1)), 0),
}  # fmt: skip
