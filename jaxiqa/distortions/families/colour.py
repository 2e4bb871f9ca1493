"""Colour spaces, and the distortions that change colour only."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxiqa.distortions.families.blur import separable_gaussian

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

_GREY = (0.2989, 0.5870, 0.1140)

MAX_DIFFUSION = 12
EDGE_SIGMA = 4.0


def colour_diffusion(image_HWC, amount):
    """Blur a* and b* (sigma = 1.5 * amount + 2 pixels) and multiply them by `amount`.

    float32 (H, W, 3) sRGB in 0..1, in and out; amount at most MAX_DIFFUSION. Source: KADID-10k data-set code, type 4.
    """
    lab_HWC = srgb_to_lab(image_HWC)
    ab_HWC = separable_gaussian(lab_HWC[..., 1:], 1.5 * amount + 2, 1.5 * MAX_DIFFUSION + 2)
    return jnp.clip(lab_to_srgb(jnp.concatenate([lab_HWC[..., :1], amount * ab_HWC], axis=-1)), 0, 1)


def colour_shift(image_HWC, distance, key):
    """Shift the green channel down and to the right, weighted by edge strength; the angle is drawn from 0..90 degrees.

    float32 (H, W, 3) in 0..1, in and out; distance in pixels, its components are rounded; edges replicated.
    Source: KADID-10k data-set code, type 5.
    """
    height, width, _ = image_HWC.shape
    angle = jax.random.uniform(key, maxval=np.pi / 2)
    down, right = (jnp.round(distance * part).astype(jnp.int32) for part in (jnp.sin(angle), jnp.cos(angle)))
    green_HW = image_HWC[..., 1]
    row = jnp.clip(jnp.arange(height) - down, 0, height - 1)
    column = jnp.clip(jnp.arange(width) - right, 0, width - 1)
    edge_HW = _edge_strength(image_HWC)
    green_HW = edge_HW * green_HW[row][:, column] + (1 - edge_HW) * green_HW
    return jnp.stack([image_HWC[..., 0], green_HW, image_HWC[..., 2]], axis=-1)


def colour_saturation_hsv(image_HWC, factor):
    """Multiply the saturation of HSV by `factor`. A negative one gives complementary colours and values outside 0..1.

    float32 (H, W, 3) in 0..1 in, unclipped out. Source: KADID-10k data-set code, type 7.
    """
    # With fixed hue and value, each channel's distance to the value (the largest channel) scales with the saturation.
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
    """CIE L*a*b* (D65) to sRGB, float32 (..., 3); colours outside the gamut stay outside 0..1."""
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


def _edge_strength(image_HWC):
    """Returns the edge strength around each pixel, 0..1: the blurred gradient with clipped extremes, (H, W)."""
    grey_HW = sum(weight * image_HWC[..., k] for k, weight in enumerate(_GREY))
    gradient_HW1 = jnp.hypot(*jnp.gradient(grey_HW))[..., None]
    edge_HW = _unit(separable_gaussian(gradient_HW1, EDGE_SIGMA, EDGE_SIGMA)[..., 0])
    edge_HW = _unit(jnp.maximum(edge_HW, 0.1))
    return _unit(jnp.clip(edge_HW, _quantile(edge_HW, 0.01), _quantile(edge_HW, 0.99)))


def _unit(values):
    """Stretch values to 0..1; constant values become 0."""
    lowest, highest = values.min(), values.max()
    return (values - lowest) / jnp.where(highest > lowest, highest - lowest, 1)


def _quantile(values, share):
    """Returns a quantile of values in 0..1, exact to 2 ** -20, without sorting."""

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        reached = (values <= middle).sum() >= share * values.size
        return jnp.where(reached, low, middle), jnp.where(reached, middle, high)

    return jax.lax.fori_loop(0, 20, halve, (jnp.float32(0), jnp.float32(1)))[1]


def _mix(pixels, matrix):
    """Returns matrix @ pixel for every pixel, as three products, which XLA fuses with other code (unlike a dot)."""
    columns = matrix.T.astype(np.float32)
    return sum(pixels[..., k : k + 1] * jnp.broadcast_to(columns[k], pixels.shape) for k in range(3))


def _add(pixels, offset):
    return pixels + jnp.broadcast_to(offset.astype(np.float32), pixels.shape)
