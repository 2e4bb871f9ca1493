"""The bank for contrastive pretraining on crops: 24 types, without stretch.

The functions are those of `DISTORTIONS`. Some levels have another order or are milder, types 6 and 15 are missing, and
contrast_nonlinear (number 26) is only here. The counts of types 20 and 23 scale with the area of the crop.

Four (type, level) cells do not change an 8-bit image (IDENTITY), so they must have the label of the pristine image.
Level 1 of contrast_change is not one of them: KADID's curve is not the identity at 0.
ASSUMED for MFEN, whose paper does not name a bank. The levels are those of ARNIQA's public code.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxiqa.distortions.families.spatial import colour_block, non_eccentricity_patch
from jaxiqa.distortions.table import DISTORTIONS, Distortion

_AREA = 384 * 512  # pixels of KADID-10k's images, for which the counts were chosen


def contrast_nonlinear(image_HWC, slope):
    """Reduce the contrast: 0.5 - o + 2 o x with o = `slope`, clipped; 0.5 changes nothing.

    float32 (H, W, 3) in 0..1, in and out. Source: ARNIQA's bank (which calls it nonlinear, although it is linear).
    """
    return jnp.clip(0.5 - slope + 2 * slope * image_HWC, 0, 1)


def crop_patches(image_HWC, count, key):
    """`non_eccentricity_patch` with `count` scaled by the crop's share of 384 x 512 pixels, at least one patch."""
    count_key, key = jax.random.split(key)
    return non_eccentricity_patch(image_HWC, _share(image_HWC, count, count_key), key)


def crop_blocks(image_HWC, count, key):
    """`colour_block` with `count` scaled by the crop's share of 384 x 512 pixels, at least one block."""
    count_key, key = jax.random.split(key)
    return colour_block(image_HWC, _share(image_HWC, count, count_key), key)


def _share(image_HWC, count, key):
    """Returns the scaled count, rounded up or down at random so that its mean is exact.

    With ordinary rounding, levels such as 2 and 4 blocks would often be equal.
    """
    share = count * (image_HWC.shape[0] * image_HWC.shape[1] / _AREA)
    return jnp.maximum(jnp.floor(share + jax.random.uniform(key)), 1)


_CHANGES = {
    "jpeg2000": dict(levels=(16, 32, 45, 120, 170)),
    "mean_shift": dict(levels=(0, 0.08, -0.08, 0.15, -0.15)),
    "non_eccentricity_patch": dict(function=crop_patches),
    "colour_block": dict(function=crop_blocks),
    "contrast_change": dict(levels=(0, 0.15, -0.4, 0.3, -0.6)),
}
_MISSING = ("colour_quantisation", "denoise")

CONTRASTIVE = (
    *(dataclasses.replace(row, **_CHANGES.get(row.name, {})) for row in DISTORTIONS if row.name not in _MISSING),
    Distortion(26, "contrast_nonlinear", "sharpness", (0.4, 0.3, 0.2, 0.1, 0.05), False, contrast_nonlinear),
)

# (type, level) that do not change an 8-bit image (measured on photographs).
IDENTITY = (("mean_shift", 1), ("gaussian_blur", 1), ("motion_blur", 1), ("colour_saturation_lab", 1))
