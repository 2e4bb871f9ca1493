"""Distorts one image: on the device, or on the host with the real codecs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxiqa.distortions.eight_bits import to_uint8_on_host
from jaxiqa.distortions.table import DISTORTIONS, get_distortion

# An image with a smaller range of values is constant up to rounding, which a stretch would amplify to the full range.
_CONSTANT = 1e-5


def distort(image_HWC, type, level, key, *, stretch=True, bank=DISTORTIONS):
    """Distort one image on the device. Pure; works under jit and vmap over images, levels and keys.

    Args:
      image_HWC: floating point (H, W, 3), sRGB in 0..1, sides of 64 or more.
      type: name or KADID-10k number; static.
      level: 1..5, the number of one of the levels; may be traced. Traced values out of range are clipped.
      key: a jax.random key; may be None for a type that is not random.
      stretch: stretch the values of the image to 0..1 before and after, as in KADID-10k.
      bank: the table with names, numbers and levels; static.

    Returns:
      float32 (H, W, 3) in 0..1.

    Raises:
      ValueError: the type is unknown, the level is an integer out of range, a random type has no key, or the image
        has another shape or an integer type.

    Source: KADID-10k / GlintIQA data-set code.
    """
    row = get_distortion(type, bank)
    if image_HWC.ndim != 3 or image_HWC.shape[2] != 3 or not jnp.issubdtype(image_HWC.dtype, jnp.floating):
        raise ValueError(f"distort takes floats (H, W, 3) in 0..1, not {image_HWC.dtype} {image_HWC.shape}")
    if isinstance(level, int | np.integer) and not 1 <= level <= len(row.levels):
        raise ValueError(f"level must be 1 to {len(row.levels)}, not {level}")
    if row.random and key is None:
        raise ValueError(f"{row.name} is random and needs a key")
    return distort_row(image_HWC, row, jnp.asarray(level, jnp.int32), key if row.random else None, stretch)


def distort_exact(image_HWC, type, level, key, *, stretch=True):
    """Distort one image on the host: the same as `distort`, but with the real codecs for jpeg and jpeg2000.

    Args:
      image_HWC: uint8 (H, W, 3), sRGB.
      type: name or KADID-10k number.
      level: 1..5.
      key: a jax.random key or an integer seed; may be None for a type that is not random.
      stretch: as in `distort`.

    Returns:
      uint8 (H, W, 3).

    Raises:
      ValueError: the type is unknown, the level is out of range, a random type has no key, or the image is not
        uint8 (H, W, 3).
    """
    row = get_distortion(type)
    if level not in (1, 2, 3, 4, 5):
        raise ValueError(f"level must be 1, 2, 3, 4 or 5, not {level!r}")
    if image_HWC.dtype != np.uint8 or image_HWC.ndim != 3 or image_HWC.shape[2] != 3:
        raise ValueError(f"distort_exact takes uint8 (H, W, 3), not {image_HWC.dtype} {image_HWC.shape}")
    if row.codec is None:
        if isinstance(key, int | np.integer):
            key = jax.random.key(key)
        return to_uint8_on_host(distort(_to_float(image_HWC), type, level, key, stretch=stretch))
    if stretch:
        image_HWC = to_uint8_on_host(_stretch(_to_float(image_HWC)))
    image_HWC = row.codec(image_HWC, row.levels[int(level) - 1])
    return to_uint8_on_host(_stretch(_to_float(image_HWC))) if stretch else image_HWC


@functools.partial(jax.jit, static_argnames=("row", "stretch"))
def distort_row(image_HWC, row, level, key, stretch):
    """`distort` without its checks: takes a row of a table, an int32 level, and None for a key that is not needed."""
    image_HWC = image_HWC.astype(jnp.float32)
    parameter = jnp.asarray(row.levels, jnp.float32)[jnp.clip(level, 1, 5) - 1]
    if stretch:
        image_HWC = _stretch(image_HWC)
    image_HWC = row.function(image_HWC, parameter, key) if row.random else row.function(image_HWC, parameter)
    if stretch:
        image_HWC = _stretch(image_HWC)
    return jnp.clip(image_HWC, 0, 1)


@jax.jit
def _stretch(image_HWC):
    lowest, highest = image_HWC.min(), image_HWC.max()
    span = highest - lowest
    return jnp.where(span > _CONSTANT, (image_HWC - lowest) / jnp.maximum(span, _CONSTANT), image_HWC)


def _to_float(image_HWC):
    return image_HWC.astype(np.float32) / 255
