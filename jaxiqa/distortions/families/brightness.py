"""Changes of brightness: tone curves and a shift of the mean."""

import jax.numpy as jnp

from jaxiqa.distortions.families.colour import lab_to_srgb, srgb_to_lab


def brighten(image_HWC, amount):
    """Raise the mid-tones: 2/3 of the result is from RGB and 1/3 from the lightness of L*a*b*.

    float32 (H, W, 3) sRGB in 0..1, in and out. Source: KADID-10k data-set code, type 16.
    """
    lab_HWC = srgb_to_lab(image_HWC)
    lightness_HW1 = 100 * _mid_tones(lab_HWC[..., :1] / 100, amount)
    by_lightness_HWC = jnp.clip(lab_to_srgb(jnp.concatenate([lightness_HW1, lab_HWC[..., 1:]], axis=-1)), 0, 1)
    return (2 * _mid_tones(image_HWC, amount) + by_lightness_HWC) / 3


def darken(image_HWC, amount):
    """Lower the mid-tones of RGB.

    float32 (H, W, 3) in 0..1, in and out. Source: KADID-10k data-set code, type 17.
    """
    return _mid_tones(image_HWC, -amount)


def mean_shift(image_HWC, shift):
    """Add a constant to all channels and clip.

    float32 (H, W, 3) in 0..1, in and out. Source: KADID-10k data-set code, type 18.
    """
    return jnp.clip(image_HWC + shift, 0, 1)


def _mid_tones(values, amount):
    """The parabola through (0, 0), (0.5, 0.5 + amount / 2) and (1, 1), clipped to 0..1."""
    return jnp.clip(values + 2 * amount * values * (1 - values), 0, 1)
