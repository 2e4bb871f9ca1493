"""Augmentations that do not change quality (flips, crops), resizing, and the models' normalisation."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxiqa.errors import DataError
from jaxiqa.inputs.decode import MAX_PIXELS
from jaxiqa.inputs.scales import cut, same_place, shrink

HEIGHT, WIDTH = 384, 512  # size of the result of whole()


class Augment(NamedTuple):
    """How a crop of a training image is drawn; the defaults are those of GlintIQA's and MAMIQA's public code.

    Attributes:
      horizontal, vertical: whether it is mirrored left-right and top-down, each with probability 1/2.
      crop: "random" (a uniformly drawn position) or "centre".
    """

    horizontal: bool = True
    vertical: bool = True
    crop: str = "random"


DEFAULT_AUGMENT = Augment()


def augment_of(config) -> Augment:
    """The augmentation of a run's config."""
    return Augment(config.flip_horizontal, config.flip_vertical, config.crop)


def random_flip(
    image_HWC: np.ndarray, rng: np.random.Generator, horizontal: bool = True, vertical: bool = True
) -> np.ndarray:
    """Mirrors left-right and top-down, each with probability 1/2 if it is allowed (GlintIQA's public code)."""
    # Both are always drawn, so that the positions of crops are the same with and without flips.
    left_right, top_down = rng.random() < 0.5, rng.random() < 0.5
    if left_right and horizontal:
        image_HWC = image_HWC[:, ::-1]
    if top_down and vertical:
        image_HWC = image_HWC[::-1]
    return image_HWC


def random_corner(height: int, width: int, size: int, rng: np.random.Generator) -> tuple[int, int]:
    """(y, x) of the upper left corner of a square of `size` pixels, uniformly drawn; the sides are at least `size`."""
    return int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))


def random_crop(image_HWC: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Cuts the square of random_corner."""
    top, left = random_corner(*image_HWC.shape[:2], size, rng)
    return image_HWC[top : top + size, left : left + size]


def centre_corner(height: int, width: int, size: int) -> tuple[int, int]:
    """(y, x) of the upper left corner of the centred square of `size` pixels."""
    return (height - size) // 2, (width - size) // 2


def augmented(
    image_HWC: np.ndarray, size: int, rng: np.random.Generator, augment: Augment, scales: Sequence[int] = (1,)
) -> np.ndarray:
    """Cuts a square of `size` pixels as `augment` says; contiguous. The image must be at least as large.

    With S scales (inputs/scales.py), the result is (S, size, size, 3): crops at the same place of smaller copies.
    """
    image_HWC = random_flip(image_HWC, rng, augment.horizontal, augment.vertical)
    height, width = image_HWC.shape[:2]
    if augment.crop == "centre":
        corner = centre_corner(height, width, size)
    else:
        corner = random_corner(height, width, size, rng)
    copies = [shrink(image_HWC, divisor, size) for divisor in scales]
    crops = [cut(copy, *same_place(corner, image_HWC.shape, copy.shape, size), size) for copy in copies]
    return np.stack(crops) if len(scales) > 1 else np.ascontiguousarray(crops[0])


def resize_shorter(image_HWC: np.ndarray, side: int) -> np.ndarray:
    """Resizes an image in proportion to a shorter side of `side` pixels: uint8, bicubic, antialiased.

    Raises:
      DataError: the image is so narrow that the result would have more than MAX_PIXELS.
    """
    height, width = image_HWC.shape[:2]
    shorter = min(height, width)
    if shorter == side:
        return image_HWC
    new_height, new_width = (max(side, math.floor(n * side / shorter + 0.5)) for n in (height, width))
    if new_height * new_width > MAX_PIXELS:
        raise DataError(
            f"an image of {width} x {height} pixels is too narrow: with a shorter side of {side} it would have more "
            f"than {MAX_PIXELS:,} pixels; crop it to a less elongated shape, or leave it out",
            code="value",
        )
    return np.array(Image.fromarray(image_HWC).resize((new_width, new_height), Image.Resampling.BICUBIC))


def fit(image_HWC: np.ndarray, min_side: int, resize: int | Sequence[int] = 0) -> np.ndarray:
    """Resizes an image for a model; no side is then below `min_side` pixels. Bicubic, antialiased.

    `resize` is the new shorter side (0 keeps the size), or the new (height, width), which may change the proportions.

    Raises:
      DataError: as resize_shorter.
    """
    if not isinstance(resize, int):
        height, width = resize
        image_HWC = np.array(Image.fromarray(image_HWC).resize((width, height), Image.Resampling.BICUBIC))
        resize = 0
    return resize_shorter(image_HWC, max(resize or min(image_HWC.shape[:2]), min_side))


def whole(image_HWC: np.ndarray) -> np.ndarray:
    """The largest centred part of aspect ratio 3:4, resized bicubically with antialiasing: uint8 (384, 512, 3).

    KADID-10k's images were rated at this size, and a transferred label belongs to a whole image of this size.
    """
    height, width = image_HWC.shape[:2]
    if (height, width) == (HEIGHT, WIDTH):
        return image_HWC
    scale = min(height / HEIGHT, width / WIDTH)
    down, left = (height - HEIGHT * scale) / 2, (width - WIDTH * scale) / 2
    box = (left, down, left + WIDTH * scale, down + HEIGHT * scale)
    return np.array(Image.fromarray(image_HWC).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box=box))


def normalise(images_u8, mean: tuple[float, ...], std: tuple[float, ...], dtype=jnp.float32):
    """Normalises uint8 images (..., 3) on the device: (x / 255 - mean) / std per channel."""
    # One multiplication and one addition, in fp32, so that bf16 rounds only once.
    shape = (1,) * (images_u8.ndim - 1) + (3,)
    gain = (1.0 / (255.0 * np.asarray(std, np.float32))).reshape(shape)
    shift = (-np.asarray(mean, np.float32) / np.asarray(std, np.float32)).reshape(shape)
    return (images_u8.astype(jnp.float32) * gain + shift).astype(dtype)


def a_row_for_each_crop(batch: dict) -> dict:
    """Turns a batch of images with N crops each, "image" (B, N, ...), into one of B N crops; those of an image adjoin.

    Labels and other values of an image are repeated.
    """
    crops = batch["image"]
    rows = {name: jnp.repeat(values, crops.shape[1], 0) for name, values in batch.items() if name != "image"}
    return {"image": crops.reshape(-1, *crops.shape[2:]), **rows}


def images_of(model):
    """Returns a function of a batch with uint8 images that returns its normalised images for the model."""
    return lambda batch: normalise(batch["image"], model.mean, model.std, model.dtype)
