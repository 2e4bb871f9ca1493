"""Versions of an image that people rate the same, and versions that get worse from level to level."""

import io
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from jaxiqa.distortions import DISTORTIONS, distort_exact

_BORDER = 8  # pixels
_GREY = 128


def _shift(image_HWC):
    return image_HWC[1:, 1:]


def _flip(image_HWC):
    return image_HWC[:, ::-1]


def _jpeg(image_HWC):
    file = io.BytesIO()
    Image.fromarray(image_HWC).save(file, "JPEG", quality=95)
    return np.asarray(Image.open(file))


def _resize(image_HWC):
    sides = [max(1, round(0.99 * side)) for side in image_HWC.shape[1::-1]]
    return np.asarray(Image.fromarray(image_HWC).resize(sides, Image.Resampling.BICUBIC))


def _border(image_HWC):
    return np.pad(image_HWC, ((_BORDER, _BORDER), (_BORDER, _BORDER), (0, 0)), constant_values=_GREY)


# What should not matter, by the name that reports show.
HARMLESS: dict[str, Callable] = {
    "one pixel less above and left": _shift,
    "mirrored left-right": _flip,
    "JPEG of quality 95": _jpeg,
    "1 % smaller": _resize,
    f"grey border of {_BORDER} pixels": _border,
}
TYPES = {row.name: row.chains for row in DISTORTIONS}  # name: its levels from weak to strong
LEVELS = (1, 2, 3, 4, 5)


def versions(image_HWC: np.ndarray) -> Iterator[np.ndarray]:
    """The image, its HARMLESS versions, and its distortions: by type, then by level. All uint8 (H, W, 3)."""
    yield image_HWC
    for change in HARMLESS.values():
        yield np.ascontiguousarray(change(image_HWC))
    for type_ in TYPES:
        for level in LEVELS:
            yield distort_exact(image_HWC, type_, level, 0, stretch=False)


COUNT = 1 + len(HARMLESS) + len(TYPES) * len(LEVELS)  # of versions()
