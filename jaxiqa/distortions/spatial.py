"""Distortions that move pixels."""

import jax.numpy as jnp


def pixelate(image_HWC, strength):
    """Nearest-neighbour reduction by 0.95 - strength ** 0.6, and nearest-neighbour enlargement to the size before.

    float32 (H, W, 3) in 0..1, in and out. Source: KADID-10k data-set code, type 21.
    """
    scale = 0.95 - strength**0.6

    def source(size):
        small = jnp.ceil(size * scale).astype(jnp.int32)
        index = (2 * jnp.arange(size) + 1) * small // (2 * size)
        return jnp.minimum(jnp.floor((index + 0.5) / scale).astype(jnp.int32), size - 1)

    height, width, _ = image_HWC.shape
    return image_HWC[source(height)][:, source(width)]
