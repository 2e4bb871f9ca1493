"""PNG files: the chunks that the pixels depend on, with their checksums, and the orientation among the others.

Text, profiles and times beside the pixels are passed over. Pillow would unpack them, and refuses a file with more than
a megabyte of them. Source: Portable Network Graphics (PNG) Specification, Third Edition.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

_METADATA = {
    *(b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"sBIT", b"bKGD"),
    *(b"hIST", b"pHYs", b"sPLT", b"tIME", b"caBX"),
}
_XMP, _RAW_EXIF = b"XML:com.adobe.xmp\0", b"Raw profile type exif\0"  # ImageMagick writes the latter
_MAX_METADATA = 2**20  # bytes of unpacked metadata that are searched for an orientation


class Content(NamedTuple):
    """A PNG file without its metadata, and the metadata that state an orientation; b"" if there are none."""

    data: bytes
    exif: bytes
    xmp: bytes


def read_content(data: bytes) -> Content:
    """Separates the chunks of a PNG file, as far as it goes; checks nothing."""
    view, kept, exif, raw_exif, xmp, end = memoryview(data), [data[:8]], b"", b"", b"", 8
    for kind, start, end in _chunks(view):
        body = view[start + 8 : end - 4]
        if kind not in _METADATA:
            kept.append(view[start:end])
        if kind == b"eXIf":
            exif = exif or bytes(body)
        elif kind == b"iTXt" and body[: len(_XMP)] == _XMP:
            xmp = xmp or _unpacked(bytes(body))
        elif kind in (b"tEXt", b"zTXt") and body[: len(_RAW_EXIF)] == _RAW_EXIF:
            raw_exif = raw_exif or _from_hex(bytes(body), kind == b"zTXt")
    kept.append(view[end:])  # of a file that is cut off
    return Content(b"".join(kept), exif or raw_exif, xmp)


def verify(data: bytes) -> None:
    """Raises ValueError if there is no end chunk, or if a checksum is wrong in a chunk that the pixels depend on."""
    view, kind = memoryview(data), b""
    for kind, start, end in _chunks(view):
        right = zlib.crc32(view[start + 4 : end - 4]).to_bytes(4, "big") == view[end - 4 : end]
        if not right and kind not in _METADATA:
            raise ValueError(f"wrong checksum in chunk {kind!r} at byte {start}")
    if kind != b"IEND":
        raise ValueError("no end chunk")


def _chunks(view: memoryview) -> Iterator[tuple[bytes, int, int]]:
    """Yields (kind, start, end) of each whole chunk, with its length and checksum, up to the end chunk."""
    start, kind = 8, b""
    while kind != b"IEND" and len(view) >= start + 12:
        length, kind = struct.unpack(">I4s", view[start : start + 8])
        if len(view) < (end := start + 12 + length):
            return
        yield kind, start, end
        start = end


def _unpacked(body: bytes) -> bytes:
    """The text of an iTXt chunk: keyword, 0, whether it is packed, method, language, 0, translated keyword, 0, text."""
    packed, rest = body[len(_XMP) : len(_XMP) + 1], body[len(_XMP) + 2 :]
    text = rest.split(b"\0", 2)[-1]
    return _inflated(text) if packed == b"\1" else text


def _from_hex(body: bytes, packed: bool) -> bytes:
    """The bytes of a raw profile: a line with its name, one with its length, and lines of hexadecimal digits."""
    text = body[len(_RAW_EXIF) :]
    lines = (_inflated(text[1:]) if packed else text).split(b"\n")
    try:
        return bytes.fromhex(b"".join(lines[3:]).decode("ascii"))
    except ValueError:
        return b""


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _MAX_METADATA)
    except zlib.error:
        return b""
