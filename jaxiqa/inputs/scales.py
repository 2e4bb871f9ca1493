"""Crops at several scales, for models that declare `scales`: of the image and of smaller copies of it.

A scale is an integer by which both sides of the image are divided. Crops have the same size at each scale. The scale 0
is the whole image, resized to a crop, whatever its proportions.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image


def shrink(image_HWC: np.ndarray, divisor: int, crop: int = 1) -> np.ndarray:
    """The image with both sides divided by `divisor` (at least 1 pixel each): uint8, bilinear, antialiased.

    With the divisor 0, both sides are `crop` pixels.
    """
    if divisor == 1:
        return image_HWC
    height, width = (max(side // divisor, 1) if divisor else crop for side in image_HWC.shape[:2])
    return np.array(Image.fromarray(image_HWC).resize((width, height), Image.Resampling.BILINEAR))


def cut(image_HWC: np.ndarray, top: int, left: int, size: int) -> np.ndarray:
    """The crop of `size` pixels at (top, left); what lies outside the image is black."""
    inside = image_HWC[max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)]
    if inside.shape[:2] == (size, size):
        return inside
    crop_HWC = np.zeros((size, size, 3), np.uint8)
    crop_HWC[max(-top, 0) :, max(-left, 0) :][: inside.shape[0], : inside.shape[1]] = inside
    return crop_HWC


def same_place(corners: ArrayLike, sides: Sequence[int], smaller: Sequence[int], size: int) -> np.ndarray:
    """The corners of crops in a smaller copy of an image.

    Args:
      corners: (..., 2) of (top, left) in the image.
      sides, smaller: (height, width) of the image and of the copy.
      size: side of the crops at both scales.

    Returns:
      int64 (..., 2). A crop at an edge of the image is at the same edge of the copy. Between the edges, positions are
      in proportion. Crops that are larger than the copy have negative corners.
    """
    room, less = np.subtract(sides[:2], size), np.subtract(smaller[:2], size)
    return np.asarray(corners) * less // np.maximum(room, 1)
