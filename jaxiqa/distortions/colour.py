"""Colour spaces, and the distortions that change colour only."""

import jax.numpy as jnp
import numpy as np

from jaxiqa.distortions.blur import separable_gaussian

# sRGB primaries; the rows sum to the D65 white point, so that grey has a* = b* = 0 exactly.
_XYZ_FROM_RGB = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = _XYZ_FROM_RGB.sum(axis=1)
_RELATIVE_XYZ_FROM_RGB = _XYZ_FROM_RGB / _WHITE[:, None]
_LAB_FROM_CURVE = np.array([[0.0, 116.0, 0.0], [500.0, -500.0, 0.0], [0.0, 200.0, -200.0]])
_LAB_OFFSET = np.array([-16.0, 0.0, 0.0])
# ITU-R BT.601 with studio range: Y in 16..235, Cb and Cr in 16..240.
_YCBCR_FROM_RGB = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
_YCBCR_OFFSET = np.array([16.0, 128.0, 128.0]) / 255

MAX_DIFFUSION = 12


def colour_diffusion(image_HWC, amount):
    """Blur a* and b* (sigma = 1.5 * amount + 2 pixels) and multiply them by `amount`.

    float32 (H, W, 3) sRGB in 0..1, in and out; amount at most MAX_DIFFUSION. Source: KADID-10k data-set code, type 4.
    """
    lab_HWC = srgb_to_lab(image_HWC)
    ab_HWC = separable_gaussian(lab_HWC[..., 1:], 1.5 * amount + 2, 1.5 * MAX_DIFFUSION + 2)
    return jnp.clip(lab_to_srgb(jnp.concatenate([lab_HWC[..., :1], amount * ab_HWC], axis=-1)), 0, 1)


def colour_saturation_hsv(image_HWC, factor):
    """Multiply the saturation of HSV by `factor`; a negative factor gives complementary colours and leaves 0..1.

    float32 (H, W, 3) in 0..1 in, unclipped out. Source: KADID-10k data-set code, type 7.
    """
    # With hue and value kept, every channel's distance to the value (the largest channel) scales with the saturation.
    value_HW1 = image_HWC.max(axis=-1, keepdims=True)
    return value_HW1 + factor * (image_HWC - value_HW1)


def colour_saturation_lab(image_HWC, factor):
    """Multiply a* and b* by `factor`.

    float32 (H, W, 3) sRGB in 0..1, in and out. Source: KADID-10k data-set code, type 8.
    """
    lab_HWC = srgb_to_lab(image_HWC)
    return jnp.clip(lab_to_srgb(jnp.concatenate([lab_HWC[..., :1], factor * lab_HWC[..., 1:]], axis=-1)), 0, 1)


def srgb_to_lab(rgb):
    """sRGB in 0..1 to CIE L*a*b* (D65, L in 0..100), float32 (..., 3). Source: IEC 61966-2-1, CIE 15."""
    linear = jnp.where(rgb <= 0.04045, rgb / 12.92, (jnp.maximum(rgb + 0.055, 0) / 1.055) ** 2.4)
    xyz = _mix(linear, _RELATIVE_XYZ_FROM_RGB)
    curve = jnp.where(xyz > (6 / 29) ** 3, jnp.maximum(xyz, 0) ** (1 / 3), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    return _add(_mix(curve, _LAB_FROM_CURVE), _LAB_OFFSET)


def lab_to_srgb(lab):
    """CIE L*a*b* (D65) to sRGB, float32 (..., 3); colours outside the gamut are left outside 0..1."""
    curve = _mix(_add(lab, -_LAB_OFFSET), np.linalg.inv(_LAB_FROM_CURVE))
    xyz = jnp.where(curve > 6 / 29, curve**3, 3 * (6 / 29) ** 2 * (curve - 4 / 29))
    linear = _mix(xyz, np.linalg.inv(_RELATIVE_XYZ_FROM_RGB))
    return jnp.where(linear <= 0.0031308, 12.92 * linear, 1.055 * jnp.maximum(linear, 0) ** (1 / 2.4) - 0.055)


def rgb_to_ycbcr(rgb):
    """RGB in 0..1 to YCbCr of studio range (16..240 of 255), float32 (..., 3). Source: ITU-R BT.601."""
    return _add(_mix(rgb, _YCBCR_FROM_RGB), _YCBCR_OFFSET)


def ycbcr_to_rgb(ycbcr):
    """The inverse of rgb_to_ycbcr; unclipped."""
    return _mix(_add(ycbcr, -_YCBCR_OFFSET), np.linalg.inv(_YCBCR_FROM_RGB))


def _mix(pixels, matrix):
    """matrix @ pixel for every pixel: three products, which fuse with what surrounds them (a dot would not)."""
    columns = matrix.T.astype(np.float32)
    return sum(pixels[..., k : k + 1] * jnp.broadcast_to(columns[k], pixels.shape) for k in range(3))


def _add(pixels, offset):
    return pixels + jnp.broadcast_to(offset.astype(np.float32), pixels.shape)
