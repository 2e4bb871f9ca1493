"""Noise followed by a denoiser."""

import jax.numpy as jnp

from jaxiqa.distortions.families import wavelet
from jaxiqa.distortions.families.noise import white_noise

SCALES = 4
# Largest noise that the denoiser assumes. KADID-10k's denoiser was trained for weak noise and leaves much strong noise.
MAX_DEVIATION = 0.31
_WINDOW = 5


def denoise(image_HWC, variance, key):
    """Add Gaussian noise, clip, and denoise red, green and blue separately.

    float32 (H, W, 3) in 0..1, in and out; variance of the noise on that scale. KADID-10k used MATLAB's pretrained grey
    DnCNN, which may not be redistributed. Here it is empirical Wiener shrinkage of wavelet coefficients (CDF 9/7) with
    the signal's variance estimated from the neighbours (Mihcak et al., IEEE SPL 1999). Like the network, it assumes
    weak noise.
    Source: KADID-10k data-set code, type 15.
    """
    height, width, _ = image_HWC.shape
    noisy_HWC = white_noise(image_HWC, variance, key)
    coarse, details = wavelet.forward(wavelet.pad_to_scales(noisy_HWC, SCALES), SCALES)
    noise = jnp.minimum(variance, MAX_DEVIATION**2)

    def shrink(band):
        power = _local_mean(band**2)
        return band * jnp.maximum(power - noise, 0) / jnp.maximum(power, noise)

    details = [jnp.split(shrink(jnp.concatenate(scale, axis=-1)), 3, axis=-1) for scale in details]
    return jnp.clip(wavelet.inverse(coarse, details)[:height, :width], 0, 1)


def _local_mean(band):
    """Mean over a square window; the edges are replicated."""
    for axis in (0, 1):
        size, reach = band.shape[axis], _WINDOW // 2
        padded = jnp.pad(band, [(reach, reach) if k == axis else (0, 0) for k in range(band.ndim)], mode="edge")
        band = sum(jnp.take(padded, jnp.arange(size) + k, axis=axis) for k in range(_WINDOW)) / _WINDOW
    return band
