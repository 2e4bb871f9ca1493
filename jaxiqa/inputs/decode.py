"""Decodes an image file to uint8 RGB pixels: the same pixels on every machine, or a one-line error.

How each kind of image is read:

  kind                        pixels
  --------------------------  -------------------------------------------------------------------------------------
  8-bit RGB, grey, palette    as stored; grey is repeated in all three channels
  1-bit, 2-bit, 4-bit         0 is black, the largest value is 255
  16-bit grey                 round(v / 257), so that 0..65535 fills 0..255 and nothing is clipped
  16-bit RGB                  the high byte, floor(v / 256), as Pillow reads it: at most 1 below v / 257
  10- and 12-bit AVIF         rounded to 8 bits by libavif; the HDR transfer curve is not undone
  float (TIFF)                floor(255 v + 0.5) if every sample is in 0..1, else refused: white is unknown
  32-bit and signed integers  refused, white is unknown (a PGM states its maximum and is read)
  alpha, transparent colour   composited over mid-grey 128, so that no black or white edges appear
  CMYK                        R = (255 - C)(255 - K) / 255, and so on; JPEG: Adobe's inverted storage
  Lab, HSV                    refused
  colour profile, gamma tag   ignored: opinion scores were given for the stored values on ordinary screens
  EXIF orientation 1..8       applied (in a PNG only if it is stored before the pixels)
  several frames or pages     refused; of an MPO or motion photograph, only the still image is read

JPEG files are decoded by libjpeg-turbo (simplejpeg) with the accurate DCT and smooth chroma upsampling, never scaled; a
file is refused if the decoder warns. All other files are decoded by Pillow, and all checksums of a PNG are verified. No
other format has checksums: truncation is refused in all formats, but damage that forms another valid stream is not
detected. Over 120 JPEG photographs, 85 % of 40-byte and 51 % of one-byte overwrites were refused (fewest at high
quality); in BMP, PPM, TIFF, lossless WebP and JPEG 2000 hardly any are. If that matters, compare checksums of files.

Every function may be called from many threads at once. No setting of Pillow or of the process is changed.
"""

import contextlib
import io
import os
import re
import stat
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
import simplejpeg
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    ImageOps,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from jaxiqa.datasets import prepared
from jaxiqa.errors import DataError, read_code

MAX_PIXELS = 178_000_000  # height * width; larger images are refused before a pixel is decoded
BACKGROUND = 128  # grey behind transparent pixels
_TOO_LARGE = f"more than the limit of {MAX_PIXELS:,} pixels: give a smaller image"


class _JpegHeader(JpegImagePlugin.JpegImageFile):
    """Pillow's reader of the segments before the first scan; simplejpeg decodes the pixels."""

    def _open(self) -> None:
        # Pillow appends each EXIF segment to the ones before; this takes linear time only for a bytearray. If the
        # resolution were missing, Pillow would copy the values of all EXIF tags; all may point to the same megabytes.
        self.info.update(exif=bytearray(), dpi=None)
        super()._open()
        end = self.fp.tell()
        self.fp.seek(0)
        # A length includes itself, so 0 and 1 are damage; Pillow and libjpeg read them as an empty segment.
        empty = any(not body for _, body in self.applist)
        if empty and re.search(rb"\xff[\xe0-\xef\xfe]\0[\0\1]", self.fp.read(end)):
            raise ValueError("a segment without a length")


# Not Image.open: its size limit is a setting of the whole process, and its guesses of the format include Ghostscript.
_PLUGINS = {
    "JPEG": _JpegHeader,
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
    "JPEG 2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}
_MAGIC = (
    ("JPEG", b"\xff\xd8\xff"),
    ("PNG", b"\x89PNG\r\n\x1a\n"),
    ("BMP", b"BM"),
    ("TIFF", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    ("GIF", b"GIF87a", b"GIF89a"),
    ("PPM", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"),
    ("JPEG 2000", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"),
)


def read_image(source) -> np.ndarray:
    """Reads the image in a file as upright RGB.

    Args:
      source: path (str or os.PathLike; also the address of an image in a prepared set, datasets/prepared), the bytes
        of a file, or a binary file object (read from its current position).

    Returns:
      uint8 (height, width, 3), 0..255, contiguous and writable. The table above says how each kind is read.

    Raises:
      DataError: the source is not a regular file, not one of the formats above, truncated, damaged, larger than
        MAX_PIXELS, of several frames, or of a kind that the table refuses. The message is one line with the file name.
    """
    with _opened(source) as (file, name):
        kind, image, shape, orientation = _header(file, name)
        with _refusing(f"truncated or damaged {kind}", name):
            if kind == "JPEG":
                file.seek(0)
                pixels = _decode_jpeg(file.read(), shape)
            else:
                if ImageFile.LOAD_TRUNCATED_IMAGES:
                    raise _Unreadable(
                        "Pillow's LOAD_TRUNCATED_IMAGES is on and would hide damage: switch it off", "conflict"
                    )
                if getattr(image, "is_animated", False):
                    raise _Unreadable(f"{kind} with several frames or pages: save the one to be scored on its own")
                if kind == "PNG":
                    _check_png(file)
                image.load()
                pixels = _to_rgb(image, kind)
    return np.ascontiguousarray(_upright(pixels, orientation))


def image_size(source) -> tuple[int, int]:
    """(height, width) in pixels of the image that read_image would return, from the header of the file alone.

    The argument is that of read_image. Raises DataError if the header is unreadable or states more than MAX_PIXELS.
    """
    with _opened(source) as (file, name):
        _, _, (height, width), orientation = _header(file, name)
    return (width, height) if orientation >= 5 else (height, width)


def read_file(source) -> bytes:
    """The bytes of an image file. The argument is that of read_image; raises DataError if it cannot be read."""
    with _opened(source) as (file, name), _refusing("unreadable file", name):
        return file.read()


def from_pil(image: Image.Image) -> np.ndarray:
    """Converts a Pillow image as read_image does: uint8 (height, width, 3), upright; raises DataError as read_image."""
    with _refusing("Pillow image", _Name("the given Pillow image")):
        if getattr(image, "is_animated", False):
            raise _Unreadable("it has several frames or pages: pass a copy of one of them")
        return np.ascontiguousarray(_to_rgb(ImageOps.exif_transpose(image), image.format or "Pillow image"))


class _Unreadable(Exception):
    """A source that is refused before a decoder fails; the text says why and what to do.

    `code` is that of the DataError, from jaxiqa.errors.CODES.
    """

    def __init__(self, text: str, code: str = "format"):
        super().__init__(text)
        self.code = code


class _Name(NamedTuple):
    """What an error is about."""

    text: str  # for messages; escaped, because a file name may hold line breaks and bytes that are not text
    key: str = ""  # the path, if there is one


@contextlib.contextmanager
def _refusing(what: str, name: _Name) -> Iterator[None]:
    """Turns any exception of a decoder into a DataError of one line; Pillow's plugins have no common type."""
    try:
        yield
    except DataError:
        raise
    except _Unreadable as error:
        raise DataError(f"cannot use {name.text}: {error}", code=error.code, key=name.key) from None
    except Image.DecompressionBombError:  # WebP's plugin refuses a size before _header() can
        raise DataError(f"cannot use {name.text}: {_TOO_LARGE}", code="value", key=name.key) from None
    except Exception as error:
        text = getattr(error, "strerror", None) or str(error)
        detail = " ".join(text.split())[:200] or type(error).__name__
        raise DataError(
            f"cannot read {name.text}: {what} ({detail}); put an intact copy in its place, or leave it out",
            code=read_code(error) if getattr(error, "errno", None) else "damaged",
            key=name.key,
        ) from error


@contextlib.contextmanager
def _opened(source) -> Iterator[tuple[BinaryIO, _Name]]:
    """Opens a source: the file, and its name."""
    if isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source), _Name("the given bytes")
    elif hasattr(source, "read"):
        name = _Name(f"the file object {str(getattr(source, 'name', type(source).__name__))!r}")
        with _refusing("unreadable file object", name):
            file = io.BytesIO(source.read())
        yield file, name
    elif isinstance(source, str | os.PathLike):
        name = _Name(repr(os.fspath(source)), os.fspath(source))
        if prepared.is_address(source):
            with _refusing("damaged prepared set", name):
                file = io.BytesIO(prepared.read_bytes(source))
            yield file, name
            return
        with _refusing("not a readable file", name):
            # Without O_NONBLOCK, the opening of a pipe without a writer never returns.
            descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise _Unreadable("not a regular file: give an image file")
        with os.fdopen(descriptor, "rb") as file:
            yield file, name
    else:
        raise TypeError(f"an image must be a path, bytes or binary file object, not {type(source).__name__}")


def _header(file: BinaryIO, name: _Name) -> tuple[str, Image.Image, tuple[int, int], int]:
    """The format, Pillow's unloaded image, the stored (height, width), and the orientation to apply."""
    with _refusing("unreadable header", name):
        start = file.read(32)
        file.seek(0)
        kind = _format(start)
        image = _PLUGINS[kind](file)
        shape = (image.height, image.width)
        # Pillow rotates a TIFF itself; its size is already the rotated one.
        orientation = 1 if kind == "TIFF" else _exif_orientation(image.info.get("exif", b""))
        if shape[0] * shape[1] > MAX_PIXELS:
            raise _Unreadable(f"{shape[1]} x {shape[0]} pixels are {_TOO_LARGE}", "value")
    return kind, image, shape, orientation


def _format(start: bytes) -> str:
    """The format, by the first bytes and not by the file's name."""
    if not start:
        raise _Unreadable("the file is empty: fetch it again or leave it out", "damaged")
    for kind, *magic in _MAGIC:
        if start.startswith(tuple(magic)):
            return kind
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "WebP"
    if start[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF"
    known = ", ".join(_PLUGINS)
    raise _Unreadable(f"not an image (starts with {start[:16]!r}): convert it to one of {known}, or leave it out")


def _exif_orientation(exif: bytes) -> int:
    """Tag 0x0112 of the first directory; 1 (upright) if it is absent, unreadable or out of range."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = "<" if exif.startswith(b"II") else ">"
    try:
        (offset,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, offset)
        for i in range(count):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, offset + 2 + 12 * i)
            if (tag, kind) == (0x0112, 3):  # orientation, as a 16-bit number
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass  # damaged metadata does not change the pixels
    return 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes an EXIF orientation (Exif 2.3, tag 0x0112): 5..8 swap the axes, then rows or columns are reversed."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    flip_rows = orientation in (3, 4, 7, 8)
    flip_columns = orientation in (2, 3, 6, 7)
    return pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def _decode_jpeg(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    *decoder_shape, colourspace, _ = simplejpeg.decode_jpeg_header(data, strict=True)
    if tuple(decoder_shape) != shape:
        raise ValueError("two different sizes in one header")
    four = colourspace in ("CMYK", "YCCK")
    pixels = simplejpeg.decode_jpeg(data, "CMYK" if four else "RGB", fastdct=False, fastupsample=False, strict=True)
    if four:
        ink, black = pixels[..., :3].astype(np.uint16), pixels[..., 3:].astype(np.uint16)
        pixels = ((ink * black + 127) // 255).astype(np.uint8)
    return pixels


def _check_png(file: BinaryIO) -> None:
    """Verifies the checksum of every chunk up to the end chunk; Pillow stops reading once it has enough pixels."""
    position_of_decoder = file.tell()
    file.seek(0)
    data = memoryview(file.read())
    file.seek(position_of_decoder)
    start, kind = 8, b""
    while kind != b"IEND":
        if len(data) < start + 12:
            raise ValueError("no end chunk")
        length, kind = struct.unpack(">I4s", data[start : start + 8])
        end = start + 8 + length
        if zlib.crc32(data[start + 4 : end]).to_bytes(4, "big") != data[end : end + 4]:
            raise ValueError(f"wrong checksum in chunk {kind!r} at byte {start}")
        start = end + 4


def _to_rgb(image: Image.Image, kind: str) -> np.ndarray:
    """A loaded image as uint8 RGB, by the table at the top of this file."""
    mode, tags = image.mode, getattr(image, "tag_v2", {})
    packing = image.info.get("compression", "raw")
    if kind == "TIFF" and packing not in ("raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate"):
        raise _Unreadable(f"TIFF with {packing} compression, in which damage goes unnoticed: save it as PNG")
    wide = mode in ("I", "F") or mode.startswith("I;16")
    if wide and ("transparency" in image.info or tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 1) != 1):
        raise _Unreadable(f"{kind} of mode {mode} with inverted or transparent samples: save it as plain 16-bit grey")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (BACKGROUND,) * 3), image)
        return np.array(image.convert("RGB"))
    if mode in ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"):
        return np.array(image.convert("RGB"))
    samples = np.asarray(image)
    sixteen = mode.startswith("I;16") and tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,)) == (16,)
    if sixteen or (mode, kind) == ("I", "PPM"):
        grey = (samples.astype(np.uint32) + 128) // 257
    elif mode == "F" and samples.min() >= 0 and samples.max() <= 1:
        from jaxiqa.distortions.eight_bits import to_uint8_on_host  # loads JAX; only this rare kind of file needs it

        grey = to_uint8_on_host(samples)
    else:
        raise _Unreadable(f"{kind} of mode {mode} whose white is unknown: save it as 8-bit RGB or 16-bit grey")
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
