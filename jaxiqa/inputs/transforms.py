"""Augmentations that leave quality alone (flips and crops of uint8 pictures), and the models' normalisation."""

import jax.numpy as jnp
import numpy as np


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


def normalise(images_u8, mean: tuple[float, ...], std: tuple[float, ...], dtype=jnp.float32):
    """uint8 images (..., 3) -> (x / 255 - mean) / std per channel, on the device."""
    # One multiplication and one addition, in fp32, so that bf16 rounds only once.
    shape = (1,) * (images_u8.ndim - 1) + (3,)
    gain = (1.0 / (255.0 * np.asarray(std, np.float32))).reshape(shape)
    shift = (-np.asarray(mean, np.float32) / np.asarray(std, np.float32)).reshape(shape)
    return (images_u8.astype(jnp.float32) * gain + shift).astype(dtype)
