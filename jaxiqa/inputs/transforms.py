"""Augmentations that leave quality alone (flips, crops), sizes, and the models' normalisation."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxiqa.errors import DataError
from jaxiqa.inputs.decode import MAX_PIXELS

HEIGHT, WIDTH = 384, 512  # of whole()


def random_flip(image_HWC: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror left-right and top-down, each with probability 1/2 (GlintIQA's public code)."""
    if rng.random() < 0.5:
        image_HWC = image_HWC[:, ::-1]
    if rng.random() < 0.5:
        image_HWC = image_HWC[::-1]
    return image_HWC


def random_crop(image_HWC: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A square of `size` pixels at a uniformly drawn place; the picture must be at least as large."""
    top = rng.integers(image_HWC.shape[0] - size + 1)
    left = rng.integers(image_HWC.shape[1] - size + 1)
    return image_HWC[top : top + size, left : left + size]


def resize_shorter(image_HWC: np.ndarray, side: int) -> np.ndarray:
    """The picture in proportion with a shorter side of `side` pixels, uint8, bicubic and antialiased.

    Raises:
      DataError: a strip so narrow that the result would have more than MAX_PIXELS.
    """
    height, width = image_HWC.shape[:2]
    shorter = min(height, width)
    if shorter == side:
        return image_HWC
    new_height, new_width = (max(side, math.floor(n * side / shorter + 0.5)) for n in (height, width))
    if new_height * new_width > MAX_PIXELS:
        raise DataError(
            f"a picture of {width} x {height} pixels is too narrow: with a shorter side of {side} it would have more "
            f"than {MAX_PIXELS:,} pixels; cut it to a squarer shape or leave it out"
        )
    return np.array(Image.fromarray(image_HWC).resize((new_width, new_height), Image.Resampling.BICUBIC))


def fit(image_HWC: np.ndarray, min_side: int, resize: int | Sequence[int] = 0) -> np.ndarray:
    """The picture as models see it, never with a side below `min_side` pixels, bicubic and antialiased.

    `resize` is the length of its shorter side (0: as it is), or its (height, width), whatever its proportions were.
    """
    if not isinstance(resize, int):
        height, width = resize
        image_HWC = np.array(Image.fromarray(image_HWC).resize((width, height), Image.Resampling.BICUBIC))
        resize = 0
    return resize_shorter(image_HWC, max(resize or min(image_HWC.shape[:2]), min_side))


def whole(image_HWC: np.ndarray) -> np.ndarray:
    """uint8 (384, 512, 3): the largest centred part of 3:4, resized bicubically with antialiasing.

    That is the size at which KADID-10k's images were rated: transferred labels belong to all of such an image.
    """
    height, width = image_HWC.shape[:2]
    if (height, width) == (HEIGHT, WIDTH):
        return image_HWC
    scale = min(height / HEIGHT, width / WIDTH)
    down, left = (height - HEIGHT * scale) / 2, (width - WIDTH * scale) / 2
    box = (left, down, left + WIDTH * scale, down + HEIGHT * scale)
    return np.array(Image.fromarray(image_HWC).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box=box))


def normalise(images_u8, mean: tuple[float, ...], std: tuple[float, ...], dtype=jnp.float32):
    """uint8 images (..., 3) -> (x / 255 - mean) / std per channel, on the device."""
    # One multiplication and one addition, in fp32, so that bf16 rounds only once.
    shape = (1,) * (images_u8.ndim - 1) + (3,)
    gain = (1.0 / (255.0 * np.asarray(std, np.float32))).reshape(shape)
    shift = (-np.asarray(mean, np.float32) / np.asarray(std, np.float32)).reshape(shape)
    return (images_u8.astype(jnp.float32) * gain + shift).astype(dtype)


def images_of(model):
    """batch -> the normalised images that the model takes, of a batch whose images are uint8."""
    return lambda batch: normalise(batch["image"], model.mean, model.std, model.dtype)
