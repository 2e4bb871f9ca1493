"""JPEG 2000 on the device: its colour transform, wavelet and quantiser, and a model of the entropy coder.

A codec lowers its quantiser step until the file reaches the size that the compression ratio allows. Here the size of
OpenJPEG's file is estimated from the number of non-zero coefficients, by a linear law (the rho-domain model of He and
Mitra, IEEE TCSVT 2001). It holds within about 20 % from ratio 16 to 400, so that the mean PSNR is within 0.5 dB of the
codec's (single images: 1.2 dB). Code blocks, layers and headers, and so their artefacts, are left out.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxiqa.distortions.families import wavelet

SCALES = 5
BITS_PER_NONZERO = 12.7  # measured on photographs: bits of OpenJPEG's file over non-zeros at the step of equal PSNR

# The irreversible colour transform (ITU-T T.800 annex G), each row times the norm of its column in the inverse: errors
# of equal size then have equal weight in all three planes, as in an encoder's bit allocation.
_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
_YCC_FROM_RGB = _YCC * np.linalg.norm(np.linalg.inv(_YCC), axis=0)[:, None]

# log2 of the step on the scale 0..255: from no visible loss to more than the largest coefficient.
_FINEST, _COARSEST, _HALVINGS = -1.0, 15.0, 12


def jpeg2000(image_HWC, ratio):
    """JPEG 2000 (9/7 wavelet, 5 scales) at a compression ratio: size of the raw 8-bit image over that of the file.

    float32 (H, W, 3) in 0..1, in and out, any size; ratio more than 1. Source: KADID-10k data-set code, type 9; ITU-T
    T.800; the rate is modelled, see above.
    """
    height, width, channels = image_HWC.shape
    ycc_HWC = _mix(255 * image_HWC - 128, _YCC_FROM_RGB)
    bands = wavelet.forward(wavelet.pad_to_scales(ycc_HWC, SCALES), SCALES)
    nonzeros = height * width * channels * 8 / ratio / BITS_PER_NONZERO
    step = _step(bands, nonzeros)

    def quantise(band):
        index = jnp.floor(jnp.abs(band) / step)
        return jnp.sign(band) * step * jnp.where(index > 0, index + 0.5, 0)

    ycc_HWC = wavelet.inverse(*jax.tree.map(quantise, bands))[:height, :width]
    return jnp.clip((_mix(ycc_HWC, np.linalg.inv(_YCC_FROM_RGB)) + 128) / 255, 0, 1)


def _step(bands, nonzeros):
    """Returns the smallest step, exact to 0.3 %, with at most `nonzeros` non-zero coefficients."""
    size = jnp.concatenate([jnp.abs(band).reshape(-1) for band in jax.tree.leaves(bands)])

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        too_many = (size >= 2**middle).sum() > nonzeros
        return jnp.where(too_many, middle, low), jnp.where(too_many, high, middle)

    return 2 ** jax.lax.fori_loop(0, _HALVINGS, halve, (jnp.float32(_FINEST), jnp.float32(_COARSEST)))[1]


def _mix(pixels_HWC, matrix):
    columns = matrix.T.astype(np.float32)
    return sum(pixels_HWC[..., k : k + 1] * jnp.broadcast_to(columns[k], pixels_HWC.shape) for k in range(3))
