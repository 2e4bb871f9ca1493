"""Rounds values in 0..1 to 8 bits. Halves round up, as in MATLAB, which wrote KADID-10k's files."""

import jax.numpy as jnp
import numpy as np


def to_uint8(images):
    """Rounds floats in 0..1 to uint8 on the device, so that a distorted image equals one that was read from a file."""
    return jnp.floor(255 * images + 0.5).astype(jnp.uint8)


def to_uint8_on_host(images) -> np.ndarray:
    """The same as to_uint8, on the host, for anything that NumPy converts to an array."""
    return np.floor(255 * np.asarray(images) + 0.5).astype(np.uint8)
