"""What tells near-duplicates: a small hash of the pixels, and the time when a photograph was taken."""

import contextlib
import datetime
import math
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxiqa.errors import DataError
from jaxiqa.inputs.decode import read_exif

_EXIF_IFD, _TAKEN, _FRACTION = 0x8769, 0x9003, 0x9291  # DateTimeOriginal and SubSecTimeOriginal of Exif 2.3


class Fingerprint(NamedTuple):
    """What is kept of an image to find its near-duplicates."""

    dhash: str = ""  # 16 hexadecimal digits; "" of an image that cannot be read
    taken: float = math.nan  # seconds since 1970 by the camera's own clock; nan if the file does not say


def fingerprint(image_HWC: np.ndarray, source: Any) -> Fingerprint:
    """The fingerprint of an image.

    dhash is the difference hash: 64 bits, each telling whether a cell of an 8 x 8 grid of the grey image is darker than
    its right neighbour. Frames of a burst differ in few bits, other images in about 32.

    Args:
      image_HWC: uint8 (H, W, 3), its pixels.
      source: its path or the bytes of its file, for the time; anything else has none.
    """
    small = Image.fromarray(image_HWC).convert("L").resize((9, 8), Image.Resampling.BOX, reducing_gap=2.0)
    grey = np.asarray(small, np.int16)
    bits = np.packbits(grey[:, 1:] > grey[:, :-1])
    return Fingerprint(bits.tobytes().hex(), _taken(source) if isinstance(source, str | bytes) else math.nan)


def distance(a: str, b: str) -> int:
    """The number of bits in which two hashes differ, 0 to 64; 64 if one is empty."""
    return (int(a, 16) ^ int(b, 16)).bit_count() if a and b else 64


def _taken(source: str | bytes) -> float:
    with contextlib.suppress(DataError, ValueError, KeyError, TypeError, SyntaxError, OSError):
        tags = Image.Exif()
        tags.load(read_exif(source))
        photo = tags.get_ifd(_EXIF_IFD)
        at = datetime.datetime.strptime(str(photo[_TAKEN]).strip("\0 "), "%Y:%m:%d %H:%M:%S")
        fraction = str(photo.get(_FRACTION, "")).strip("\0 ")
        seconds = at.replace(tzinfo=datetime.UTC).timestamp()
        return seconds + (float(f"0.{fraction}") if fraction.isdigit() else 0.0)
    return math.nan
