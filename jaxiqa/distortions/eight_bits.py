"""Values in 0..1 to the 256 that a file holds. Halves go up, as in MATLAB, which wrote KADID-10k's files."""

import jax.numpy as jnp
import numpy as np


def to_uint8(images):
    """Floats in 0..1 to the nearest 8 bits, on the device: a distorted image is as coarse as the file of one."""
    return jnp.floor(255 * images + 0.5).astype(jnp.uint8)


def to_uint8_on_host(images) -> np.ndarray:
    """What to_uint8 gives, of anything that NumPy takes for an array."""
    return np.floor(255 * np.asarray(images) + 0.5).astype(np.uint8)
