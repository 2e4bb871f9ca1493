"""Decodes an image file to uint8 RGB pixels: the same pixels on every machine, or a one-line error.

How each kind of image is read:

  kind                        pixels
  --------------------------  -------------------------------------------------------------------------------------
  8-bit RGB, grey, palette    as stored; grey is repeated in all three channels
  1-bit, 2-bit, 4-bit         0 is black, the largest value is 255
  12-bit, 16-bit grey         rounded, so that 0..4095 or 0..65535 fills 0..255 and nothing is clipped
  16-bit RGB                  the high byte, floor(v / 256), as Pillow reads it: at most 1 below v / 257
  10- and 12-bit AVIF, HEIC   rounded to 8 bits by their libraries; the HDR transfer curve is not undone
  float (TIFF)                floor(255 v + 0.5) if every sample rounds to 0..255, else refused: white is unknown
  32-bit and signed integers  refused, white is unknown (a PGM states its maximum and is read)
  alpha, transparent colour   composited over mid-grey 128, so that no black or white edges appear
  alpha 0 everywhere          BMP, TIFF: an unused channel, ignored; other formats: an invisible image, all mid-grey
  CMYK                        R = (255 - C)(255 - K) / 255, and so on; JPEG: Adobe's inverted storage
  Lab, HSV                    refused
  colour profile, gamma tag   ignored: opinion scores were given for the stored values on ordinary screens
  orientation 1..8            that of EXIF, else that of XMP, is applied; AVIF, HEIC, JPEG XL: that of the container
  several frames or pages     refused; of an MPO, a motion photograph or a HEIC, only the (primary) still is read
  raw camera files, DNG       refused: the image in them that Pillow sees is a thumbnail

JPEG files are decoded by libjpeg-turbo (simplejpeg) with the accurate DCT and smooth chroma upsampling, never scaled. A
file is refused if the decoder warns of lost data; inputs/jpeg_file.py names the warnings that do not mean this. All
other files are decoded by Pillow, HEIC and JPEG XL by its plug-ins, which are the extras [heic] and [jxl]. Of a PNG,
the checksums of all chunks that the pixels depend on are verified. No other format has checksums: truncation is refused
in all formats, but damage that forms another valid stream is not detected. Of 120 JPEG photographs with 40 bytes
overwritten, 86 % were refused; with one byte overwritten, 50 % (fewest at high quality). Hardly any such file is
refused if it is BMP, PPM, uncompressed TIFF, JPEG in a TIFF, lossless WebP, JPEG 2000, or a JPEG with a chroma
subsampling that simplejpeg does not know, which Pillow decodes. If that matters, compare checksums of files.

Every function may be called from many threads at once. No setting of Pillow or of the process is changed.
"""

import contextlib
import io
import os
import stat
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    ImageOps,
    Jpeg2KImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from jaxiqa.datasets import prepared
from jaxiqa.errors import DataError, read_code
from jaxiqa.inputs import jpeg_file, png_file, remote
from jaxiqa.inputs.orientation import orientation, upright

MAX_PIXELS = 178_000_000  # height * width; larger images are refused before a pixel is decoded
BACKGROUND = 128  # grey behind transparent pixels
_TOO_LARGE = f"more than the limit of {MAX_PIXELS:,} pixels: give a smaller image"


def _heic(file: BinaryIO) -> Image.Image:
    from pillow_heif.as_plugin import HeifImageFile

    return HeifImageFile(file)


def _jxl(file: BinaryIO) -> Image.Image:
    from pillow_jxl.JpegXLImagePlugin import JXLImageFile

    return JXLImageFile(file)


# Not Image.open: its size limit is a setting of the whole process, and its guesses of the format include Ghostscript.
_PLUGINS: dict[str, Callable] = {
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
    "JPEG 2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "HEIC": _heic,
    "JPEG XL": _jxl,
}
_EXTRAS = {"HEIC": "heic", "JPEG XL": "jxl"}  # formats whose decoder is an optional dependency
_STILLS = ("MPO", "HEIF")  # Pillow's names of formats in which further images accompany the still
_CONTAINERS = ("AVIF", "HEIC", "HEIF")  # formats whose own orientation, which Pillow shows as that of EXIF, holds
_DECODED_UPRIGHT = ("JPEG XL", "JXL", "TIFF")  # their decoders turn the pixels
_ORIENTATION, _NEW_SUBFILE_TYPE, _DNG_VERSION = 274, 254, 50706  # tags of TIFF
_MAGIC = (
    ("JPEG", b"\xff\xd8\xff"),
    ("PNG", b"\x89PNG\r\n\x1a\n"),
    ("BMP", b"BM"),
    ("TIFF", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    ("GIF", b"GIF87a", b"GIF89a"),
    ("PPM", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"),
    ("JPEG 2000", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"),
    ("JPEG XL", b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"),
)
_BRANDS = (  # of files in ISO base media format, by any of their brands
    ("AVIF", b"avif", b"avis"),
    ("HEIC", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"),
    ("a raw camera file (CR3)", b"crx "),
    ("a film", b"isom", b"iso2", b"mp41", b"mp42", b"qt  ", b"M4V ", b"3gp4", b"3gp5"),
)
_OTHERS = (  # what people take for an image
    ("a PDF document", b"%PDF"),
    ("a PostScript drawing", b"%!PS"),
    ("an SVG drawing", b"<svg", b"<?xml"),
    ("a web page", b"<!doctype html", b"<html", b"<head"),
    ("a Photoshop document", b"8BPS"),
    ("an icon", b"\0\0\1\0"),
    ("an OpenEXR image of high dynamic range", b"v/1\x01"),
    ("a Radiance image of high dynamic range", b"#?RADIANCE", b"#?RGBE"),
    ("a raw camera file", b"II*\0\x10\0\0\0CR", b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb"),
    ("a macOS companion file without pixels", b"\0\5\x16\7", b"\0\5\x16\0"),
    ("a pointer of Git LFS: run git lfs pull", b"version https://git-lfs"),
    ("an archive", b"PK\3\4", b"\x1f\x8b", b"Rar!", b"7z\xbc\xaf"),
    ("a film", b"\x1aE\xdf\xa3", b"\0\0\1\xba"),
)


def read_image(source) -> np.ndarray:
    """Reads the image in a file as upright RGB.

    Args:
      source: path (str or os.PathLike; also the address of an image in a prepared set, datasets/prepared, or one that
        inputs/remote.py reads, e.g. s3://bucket/a.jpg), the bytes of a file, or a binary file object (read from its
        current position).

    Returns:
      uint8 (height, width, 3), 0..255, contiguous and writable. The table above says how each kind is read.

    Raises:
      DataError: the source is not a regular file, not one of the formats above, truncated, damaged, larger than
        MAX_PIXELS, of several frames, of a kind that the table refuses, or its extra is not installed. The message is
        one line with the file name.
    """
    with _opened(source) as (file, name):
        header = _header(file, name)
        return _decoded(file, header, name)


def image_size(source) -> tuple[int, int]:
    """(height, width) in pixels of the image that read_image would return, without decoding it.

    The argument is that of read_image. Raises DataError if the header is unreadable or states more than MAX_PIXELS.
    """
    with _opened(source) as (file, name):
        header = _header(file, name)
    height, width = header.shape
    return (width, height) if header.orientation >= 5 else (height, width)


def read_file(source) -> bytes:
    """The bytes of an image file. The argument is that of read_image; raises DataError if it cannot be read."""
    with _opened(source) as (file, name), _refusing("unreadable file", name):
        return file.read()


def read_exif(source) -> bytes:
    """The EXIF data of an image file; b"" if there are none. The argument is that of read_image, and so are errors."""
    with _opened(source) as (file, name):
        image = _header(file, name).image
        return image.exif if isinstance(image, jpeg_file.Header) else image.info.get("exif") or b""


def from_pil(image: Image.Image) -> np.ndarray:
    """Converts a Pillow image as read_image does: uint8 (height, width, 3), upright; raises DataError as read_image.

    A JPEG or PNG that Image.open has just opened, and whose pixels nobody has used yet, is read from its file by
    read_image: Pillow would not report all damage. Of an MPO or HEIC, the current frame is converted.
    """
    name = _Name("the given Pillow image")
    with _refusing("Pillow image", name):
        if data := _unread_file(image):
            file = io.BytesIO(data)
            header = _header(file, name)
            if header.shape == (image.height, image.width):  # else Image.draft() has scaled it
                return _decoded(file, header, name)
        _check_single(image)
        image.load()
        kind, way = image.format or "Pillow image", 1
        if "exif" in image.info or "xmp" in image.info:
            way = _orientation(image, kind)
        elif kind != "TIFF":
            image = ImageOps.exif_transpose(image)  # the tag may have been set in memory
        return np.ascontiguousarray(upright(_to_rgb(image, kind), way))


def _unread_file(image: Image.Image) -> bytes:
    """The bytes of the JPEG or PNG file of a Pillow image whose pixels are not yet decoded; else b""."""
    file = getattr(image, "fp", None)
    if image.format not in ("JPEG", "MPO", "PNG") or not image.tile or file is None or image.tell():
        return b""
    position = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(position)
    return data


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


class _Header(NamedTuple):
    """What is known of an image before its pixels."""

    kind: str  # the format
    image: Image.Image | jpeg_file.Header  # Pillow's unloaded image, or what a JPEG says of itself
    shape: tuple[int, int]  # the stored (height, width)
    orientation: int  # to apply to the decoded pixels


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
        refused_by_disk = bool(getattr(error, "errno", None))
        remedy = "check its path and permissions" if refused_by_disk else "put an intact copy in its place"
        raise DataError(
            f"cannot read {name.text}: {what} ({detail}); {remedy}, or leave it out",
            code=read_code(error) if refused_by_disk else "damaged",
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
        if remote.is_address(name.key):
            yield io.BytesIO(remote.read_bytes(name.key)), name
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


def _header(file: BinaryIO, name: _Name) -> _Header:
    """Reads the header of a file, which is at its start."""
    with _refusing("unreadable header", name):
        kind = _format(file.read(512))
        file.seek(0)
        if kind == "JPEG":
            jpeg = jpeg_file.read_header(file)
            if jpeg.bits != 8:
                raise _Unreadable(f"a JPEG of {jpeg.bits} bits: save it as 8-bit JPEG or 16-bit PNG")
            header = _Header(kind, jpeg, jpeg.shape, orientation(jpeg.exif, jpeg.xmp))
        elif kind == "PNG":
            png = png_file.read_content(file.read())
            image = _PLUGINS[kind](io.BytesIO(png.data))
            header = _Header(kind, image, (image.height, image.width), orientation(png.exif, png.xmp))
        else:
            header = _header_by_pillow(file, kind)
        height, width = header.shape
        if height * width > MAX_PIXELS:
            raise _Unreadable(f"{width} x {height} pixels are {_TOO_LARGE}", "value")
    return header


def _header_by_pillow(file: BinaryIO, kind: str) -> _Header:
    try:
        image = _PLUGINS[kind](file)
    except ImportError as error:
        extra = _EXTRAS[kind]
        raise _Unreadable(
            f'{kind} images need the extra [{extra}]: run python -m pip install "jaxiqa[{extra}]"', "package"
        ) from error
    shape = image.height, image.width
    # The size of an unloaded TIFF is that of the turned image if the tag is there, but not if XMP takes its place.
    if kind == "TIFF" and _ORIENTATION not in image.tag_v2 and orientation(b"", _xmp(image)) >= 5:
        shape = shape[::-1]
    return _Header(kind, image, shape, _orientation(image, kind))


def _orientation(image: Image.Image, kind: str) -> int:
    """The orientation to apply to the pixels of an image of Pillow."""
    if kind in _DECODED_UPRIGHT:
        return 1
    return orientation(image.info.get("exif") or b"", b"" if kind in _CONTAINERS else _xmp(image))


def _xmp(image: Image.Image) -> bytes:
    packet = image.info.get("xmp", b"")
    return packet if isinstance(packet, bytes) else str(packet).encode()


def _format(start: bytes) -> str:
    """The format, by the first bytes and not by the file's name."""
    if not start:
        raise _Unreadable("the file is empty: fetch it again or leave it out", "damaged")
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    what = next((other for other, *magic in _OTHERS if text.startswith(tuple(m.lower() for m in magic))), "")
    for kind, *magic in _MAGIC:
        if not what and start.startswith(tuple(magic)):
            return kind
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "WebP"
    if start[4:8] == b"ftyp":  # brands: the major one, its version, and the compatible ones, to the end of this box
        brands = {start[at : at + 4] for at in (8, *range(16, int.from_bytes(start[:4], "big"), 4))}
        what = next((kind for kind, *known in _BRANDS if brands & {*known}), "")
        if what in _PLUGINS:
            return what
    known = ", ".join(("JPEG", *_PLUGINS))
    raise _Unreadable(
        f"not an image but {what}; give one in {known}, or leave it out"
        if what
        else f"not an image (starts with {start[:16]!r}): convert it to one of {known}, or leave it out"
    )


def _decoded(file: BinaryIO, header: _Header, name: _Name) -> np.ndarray:
    """The upright pixels of a file with this header."""
    kind, image = header.kind, header.image
    with _refusing(f"truncated or damaged {kind}", name):
        if isinstance(image, jpeg_file.Header):
            file.seek(0)
            pixels = _jpeg_to_rgb(jpeg_file.decode(file.read(), image))
        else:
            if ImageFile.LOAD_TRUNCATED_IMAGES:
                raise _Unreadable(
                    "Pillow's LOAD_TRUNCATED_IMAGES is on and would hide damage: switch it off", "conflict"
                )
            _check_single(image)
            if kind == "PNG":
                file.seek(0)
                png_file.verify(file.read())
            image.load()
            pixels = _to_rgb(image, kind)
    return np.ascontiguousarray(upright(pixels, header.orientation))


def _check_single(image: Image.Image) -> None:
    """Refuses an image of Pillow that is one of several, or stands for another one."""
    tags = getattr(image, "tag_v2", {})
    if _DNG_VERSION in tags or tags.get(_NEW_SUBFILE_TYPE, 0) == 1:
        raise _Unreadable("a raw camera file, or only a thumbnail: develop it into a JPEG, PNG or TIFF first")
    if getattr(image, "is_animated", False) and image.format not in _STILLS:
        raise _Unreadable("it has several frames or pages: save the one to be scored on its own")


def _jpeg_to_rgb(pixels: np.ndarray) -> np.ndarray:
    """Decoded JPEG pixels as RGB: CMYK is inverted, as Adobe stores it."""
    if pixels.shape[2] == 3:
        return pixels
    ink, black = pixels[..., :3].astype(np.uint16), pixels[..., 3:].astype(np.uint16)
    return ((ink * black + 127) // 255).astype(np.uint8)


def _to_rgb(image: Image.Image, kind: str) -> np.ndarray:
    """A loaded image as uint8 RGB, by the table at the top of this file."""
    mode, tags = image.mode, getattr(image, "tag_v2", {})
    wide = mode in ("I", "F") or mode.startswith("I;16")
    if wide and ("transparency" in image.info or tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 1) != 1):
        raise _Unreadable(f"{kind} of mode {mode} with inverted or transparent samples: save it as plain 16-bit grey")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if kind in ("BMP", "DIB", "TIFF") and image.getextrema()[3] == (0, 0):
            return np.array(image.convert("RGB"))  # an unused channel, which other programs ignore
        image = Image.alpha_composite(Image.new("RGBA", image.size, (BACKGROUND,) * 3), image)
        return np.array(image.convert("RGB"))
    if mode in ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"):
        return np.array(image.convert("RGB"))
    samples = np.asarray(image)
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))
    if (mode.startswith("I;16") and bits in ((12,), (16,))) or (mode, kind) == ("I", "PPM"):
        white = 2 ** bits[0] - 1
        grey = ((samples.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)
    elif mode == "F" and rounds_to_8_bits(samples):
        from jaxiqa.distortions.eight_bits import to_uint8_on_host  # loads JAX; only this rare kind of file needs it

        grey = to_uint8_on_host(samples)
    else:
        raise _Unreadable(f"{kind} of mode {mode} whose white is unknown: save it as 8-bit RGB or 16-bit grey")
    return np.repeat(grey[..., None], 3, axis=2)


def rounds_to_8_bits(samples: np.ndarray) -> bool:
    """Whether floor(255 v + 0.5) of every float is in 0..255: values in 0..1, give or take the noise of fp32."""
    return bool(samples.min() >= -0.5 / 255 and samples.max() < 1 + 0.5 / 255)  # False for NaN
