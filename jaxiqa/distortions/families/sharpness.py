"""Excessive sharpening, and changes of contrast."""

import jax.numpy as jnp

from jaxiqa.distortions.families.blur import separable_gaussian
from jaxiqa.distortions.families.colour import lab_to_srgb, srgb_to_lab

UNSHARP_SIGMA = 3.0


def high_sharpen(image_HWC, amount):
    """Unsharp mask on the lightness of L*a*b*.

    float32 (H, W, 3) sRGB in 0..1, in and out.
    Source: KADID-10k data-set code, type 24 (MATLAB's `imsharpen`, radius 3).
    """
    lab_HWC = srgb_to_lab(image_HWC)
    lightness_HW1 = lab_HWC[..., :1]
    detail_HW1 = lightness_HW1 - separable_gaussian(lightness_HW1, UNSHARP_SIGMA, UNSHARP_SIGMA)
    sharpened_HWC = jnp.concatenate([lightness_HW1 + amount * detail_HW1, lab_HWC[..., 1:]], axis=-1)
    return jnp.clip(lab_to_srgb(sharpened_HWC), 0, 1)


def contrast_change(image_HWC, amount):
    """S-shaped tone curve: the spline through (0, 0), (0.3, 0.25 - amount / 4), (0.5, 0.5) and their mirror images.

    float32 (H, W, 3) in 0..1, in and out. Source: KADID-10k data-set code, type 25.
    """
    # The not-a-knot spline through five points that are symmetric about (0.5, 0.5) is one cubic with this symmetry.
    centred_HWC = image_HWC - 0.5
    cubic = -(0.05 + amount / 4) / 0.042
    return jnp.clip(0.5 + (1 - cubic / 4) * centred_HWC + cubic * centred_HWC**3, 0, 1)
