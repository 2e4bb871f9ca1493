"""Noise, and what a denoiser leaves of the picture."""

import jax.numpy as jnp

from jaxiqa.distortions import wavelet
from jaxiqa.distortions.noise import white_noise

SCALES = 4
# Of the noise that the denoiser is prepared for: KADID-10k's was trained for little noise, and leaves much of more.
MAX_DEVIATION = 0.31
_WINDOW = 5


def denoise(image_HWC, variance, key):
    """Add Gaussian noise, clip, and denoise red, green and blue each by itself.

    float32 (H, W, 3) in 0..1, in and out; variance of the noise on that scale. KADID-10k used MATLAB's pretrained grey
    DnCNN, which may not be passed on. Here: empirical Wiener shrinkage of wavelet coefficients (CDF 9/7), the signal's
    variance taken from the neighbours (Mihcak et al., IEEE SPL 1999), as blind to strong noise as the network is.
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
