"""The EXIF orientation of an image: which way up its stored rows and columns are shown (Exif 2.3, tag 0x0112)."""

import re
import struct

import numpy as np

_TAG = 0x0112
_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 11: "f", 12: "d"}  # TIFF type -> struct's letter
_RATIONALS = {5: "II", 10: "ii"}
_ASCII = 2
_XMP = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([0-9]+)")


def orientation(exif: bytes, xmp: bytes = b"") -> int:
    """The orientation, 1 (upright) to 8: that of the EXIF data, else that of the XMP packet.

    A tag of any TIFF type counts. A value that is not 1..8, and metadata that cannot be read, mean 1: damaged metadata
    does not change the pixels.
    """
    value = _of_exif(exif.removeprefix(b"Exif\0\0"))
    if value is None:
        found = _XMP.search(xmp)
        value = int(found[1][:2]) if found else 1
    return int(value) if value in range(1, 9) else 1


def _of_exif(exif: bytes) -> float | None:
    """The value of the tag in the first directory; None if there is none."""
    order = "<" if exif.startswith(b"II") else ">"
    try:
        (offset,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, offset)
        for at in range(offset + 2, offset + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, at)
            if tag == _TAG:
                return _value(exif, order, kind, at + 8)
    except struct.error:
        pass
    return None


def _value(exif: bytes, order: str, kind: int, at: int) -> float:
    """The first value of a tag of TIFF type `kind`, whose value or, if it is longer than 4 bytes, its place is `at`."""
    if kind == _ASCII:
        digit = exif[at : at + 1]
        return int(digit) if digit.isdigit() else 1
    form = _NUMBERS.get(kind) or _RATIONALS.get(kind)
    if form is None:
        return 1
    if struct.calcsize(f"={form}") > 4:
        (at,) = struct.unpack_from(f"{order}I", exif, at)
    value, *divisor = struct.unpack_from(f"{order}{form}", exif, at)
    return value / divisor[0] if divisor and divisor[0] else value


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes an orientation of pixels (H, W, C): 5..8 swap the axes, then rows or columns are reversed."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    flip_rows = orientation in (3, 4, 7, 8)
    flip_columns = orientation in (2, 3, 6, 7)
    return pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
