"""Random noise, independent per pixel and channel; the result is clipped to 0..1."""

import jax
import jax.numpy as jnp

from jaxiqa.distortions.families.colour import rgb_to_ycbcr, ycbcr_to_rgb


def white_noise(image_HWC, variance, key):
    """Add Gaussian noise of mean 0.

    float32 (H, W, 3) in 0..1, in and out; variance on that scale. Source: KADID-10k data-set code, type 11.
    """
    return jnp.clip(image_HWC + jnp.sqrt(variance) * jax.random.normal(key, image_HWC.shape), 0, 1)


def white_noise_ycbcr(image_HWC, variance, key):
    """Add Gaussian noise of mean 0 to all three planes of YCbCr (studio range, scaled to 0..1).

    float32 (H, W, 3) in 0..1, in and out. Source: KADID-10k data-set code, type 12.
    """
    return jnp.clip(ycbcr_to_rgb(white_noise(rgb_to_ycbcr(image_HWC), variance, key)), 0, 1)


def impulse_noise(image_HWC, density, key):
    """Salt and pepper: a share `density` of all channel values becomes 0 or 1, with equal chance.

    float32 (H, W, 3) in 0..1, in and out. Source: KADID-10k data-set code, type 13.
    """
    draw_HWC = jax.random.uniform(key, image_HWC.shape)
    return jnp.where(draw_HWC < density / 2, 0.0, jnp.where(draw_HWC < density, 1.0, image_HWC))


def multiplicative_noise(image_HWC, variance, key):
    """Speckle: multiply by 1 + n, n uniform with mean 0 and the given variance.

    float32 (H, W, 3) in 0..1, in and out. Source: KADID-10k data-set code, type 14.
    """
    bound = jnp.sqrt(3 * variance)
    noise_HWC = bound * jax.random.uniform(key, image_HWC.shape, minval=-1.0, maxval=1.0)
    return jnp.clip(image_HWC + noise_HWC * image_HWC, 0, 1)
