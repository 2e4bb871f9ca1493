"""JPEG files: the segments before the pixels, and the pixels with all damage reported that a decoder can see.

libjpeg-turbo (simplejpeg) decodes strictly: its first warning ends the decoding. Most warnings mean lost data. Some do
not, and viewers show such files: bytes between segments, zeros before a marker, the scan parameters that Samsung phones
write, an unknown version of JFIF or of Adobe's transform. If a file is refused, these oddities are removed from a copy,
which is decoded strictly once more. So an oddity never hides damage behind it.

Sources: ITU-T T.81 (markers, annex B), JFIF 1.02, T.872 (Adobe's APP14 segment), Exif 2.3.
"""

import io
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
import simplejpeg
from PIL import Image, JpegImagePlugin

_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_SOI, _EOI, _SOS, _APP0, _APP1, _APP14, _COM = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEE, 0xFE
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # the segments that state the size
_SEQUENTIAL = (0xC0, 0xC1)  # Huffman-coded frames whose scans have fixed parameters
_ALONE = {0x01, *range(0xD0, 0xD8), _SOI, _EOI}  # markers without a length
_RESTART_PADDING = re.compile(rb"(\xff\0|)\0{3,}(?=\xff[\xd0-\xd7])")  # a zero after 0xff is part of the data
_END_PADDING = re.compile(rb"\0{3,}\Z")
_END_OF_SCAN = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")  # a marker other than a restart


class Header(NamedTuple):
    """What a JPEG file says before its first scan."""

    shape: tuple[int, int]  # (height, width) as stored
    bits: int  # per sample
    channels: int
    exif: bytes  # of all EXIF segments; b"" if there is none
    xmp: bytes


class _Segment(NamedTuple):
    """A marker, the bytes after its length, and the bytes before it that belong to no segment."""

    marker: int
    body: bytes
    stray: bytes


def read_header(file: BinaryIO) -> Header:
    """Reads the segments before the first scan. Raises ValueError if they do not state a size."""
    exif, xmp, frame = [], b"", b""
    for marker, body, _ in _segments(file):
        if marker in _FRAMES:
            frame = frame or body
        elif marker == _APP1 and body.startswith(_EXIF):
            exif.append(body[len(_EXIF) :])
        elif marker == _APP1 and body.startswith(_XMP):
            xmp = xmp or body[len(_XMP) :]
        elif marker in (_SOS, _EOI):
            break
    else:
        raise ValueError("no scan")
    shape = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    if len(frame) < 6 or not all(shape):
        raise ValueError("no width or no height")
    return Header(shape, frame[0], frame[5], b"".join(exif), xmp)


def _segments(file: BinaryIO) -> Iterator[_Segment]:
    """Yields the segments from the file's position on; after a scan's header, the file is at the scan's data."""
    while True:
        stray, byte = bytearray(), file.read(1)
        marker = b""
        while byte:
            if byte == b"\xff":
                while (marker := file.read(1)) == b"\xff":  # any number of them may stand before a marker
                    pass
                if marker != b"\0":  # a stuffed byte is data
                    break
                byte += marker
            stray += byte
            byte = file.read(1)
        if not marker or not byte:
            return
        if marker[0] in _ALONE:
            yield _Segment(marker[0], b"", bytes(stray))
            continue
        # A length includes itself. Decoders read 0 and 1, which are damage, as an empty segment.
        length = max(2, int.from_bytes(file.read(2), "big"))
        yield _Segment(marker[0], file.read(length - 2), bytes(stray))


def decode(data: bytes, header: Header) -> np.ndarray:
    """The pixels of a JPEG file as stored: uint8 (height, width, 3), or (height, width, 4) of inverted CMYK.

    Raises:
      ValueError: the file is cut off, or the decoder reports lost data.
    """
    try:
        return _decode_strictly(data, header)
    except ValueError as error:
        plain = _without_oddities(data, header.channels)
        if plain == data:
            raise
        try:
            return _decode_strictly(plain, header)
        except ValueError as second:
            raise second from error


def _decode_strictly(data: bytes, header: Header) -> np.ndarray:
    four = header.channels == 4
    try:
        shape = simplejpeg.decode_jpeg_header(data, strict=True)[:2]
    except (KeyError, ValueError) as error:
        if isinstance(error, ValueError) and "subsampling" not in str(error):
            raise
        return _decode_by_pillow(data, header)  # a chroma subsampling that simplejpeg has no name for
    if shape != header.shape:
        raise ValueError("two different sizes in one header")
    return simplejpeg.decode_jpeg(data, "CMYK" if four else "RGB", fastdct=False, fastupsample=False, strict=True)


def _decode_by_pillow(data: bytes, header: Header) -> np.ndarray:
    """The same pixels by Pillow's copy of libjpeg-turbo, which reports truncation but keeps its warnings to itself."""
    image: Image.Image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    if (image.height, image.width) != header.shape:
        raise ValueError("two different sizes in one header")
    if header.channels == 4:
        return 255 - np.asarray(image)  # Pillow has undone Adobe's inversion
    return np.array(image.convert("RGB"))


def _without_oddities(data: bytes, channels: int) -> bytes:
    """A copy without metadata and oddities that cost no pixel; the entropy-coded data stay as they are.

    Raises:
      ValueError: bytes between the segments may be a lost segment of Adobe's, which says what the channels mean.
    """
    file, parts, sequential = io.BytesIO(data), [], False
    for marker, body, stray in _segments(file):
        if b"Adobe" in stray:
            raise ValueError("a segment without a marker")
        if marker == _APP0 and body.startswith(b"JFIF\0"):
            body = body[:5] + b"\1" + body[6:]  # the major version
        elif marker == _APP14 and body.startswith(b"Adobe") and len(body) >= 12:
            transform = body[11] if body[11] <= 2 else channels - 2  # decoders take an unknown one for YCbCr or YCCK
            body = body[:11] + bytes([transform]) + body[12:]
        elif _APP0 <= marker <= _APP0 + 15 or marker == _COM:
            continue
        elif marker == _SOS and sequential:
            body = body[:-3] + b"\0\x3f\0"  # what the parameters of a sequential scan must be
        sequential = sequential or marker in _SEQUENTIAL
        parts.append(bytes([0xFF, marker]))
        if marker not in _ALONE:
            parts += [(len(body) + 2).to_bytes(2, "big"), body]
        if marker == _SOS:
            end = _END_OF_SCAN.search(data, file.tell())
            if not end:
                break
            parts.append(_without_padding(data[file.tell() : end.start()]))
            file.seek(end.start())
        elif marker == _EOI:
            break
    return b"".join(parts)


def _without_padding(scan: bytes) -> bytes:
    """Entropy-coded data without zeros before markers; the two that decoders pass at the end stay: they may be data."""
    return _END_PADDING.sub(b"\0\0", _RESTART_PADDING.sub(rb"\1", scan))
