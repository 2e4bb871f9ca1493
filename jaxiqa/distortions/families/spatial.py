"""Distortions that move or hide pixels."""

import jax
import jax.numpy as jnp

MAX_PATCHES, PATCH, REACH = 100, 16, 8
MAX_BLOCKS, BLOCK = 10, 32
WARPS = 5


def jitter(image_HWC, deviation, key):
    """Apply five warps, each of which moves every pixel by Gaussian offsets in both axes.

    float32 (H, W, 3) in 0..1, in and out; deviation of the offsets in pixels. Bicubic interpolation (a = -0.5), edges
    replicated. Source: KADID-10k data-set code, type 19.
    """

    def warp(image_HWC, key):
        offset_2HW = deviation * jax.random.normal(key, (2, *image_HWC.shape[:2]))
        return jnp.clip(_bicubic(image_HWC, offset_2HW), 0, 1), None

    return jax.lax.scan(warp, image_HWC, jax.random.split(key, WARPS))[0]


def non_eccentricity_patch(image_HWC, count, key):
    """Copy `count` patches of 16 x 16 pixels, one after another, each by up to 8 pixels in each axis.

    float32 (H, W, 3) in 0..1, in and out; count at most MAX_PATCHES. Source: KADID-10k data-set code, type 20.
    """
    height, width, _ = image_HWC.shape
    start_key, shift_key = jax.random.split(key)
    last = jnp.array([height, width]) - 2 * PATCH
    start = jax.random.randint(start_key, (MAX_PATCHES, 2), PATCH, jnp.broadcast_to(last + 1, (MAX_PATCHES, 2)))
    shift = jax.random.uniform(shift_key, (MAX_PATCHES, 2), minval=-REACH, maxval=REACH)
    target = start + jnp.round(shift).astype(jnp.int32)

    def copy(number, image_HWC):
        cut = lambda corner: jax.lax.dynamic_slice(image_HWC, (*corner, 0), (PATCH, PATCH, 3))  # noqa: E731
        patch = jnp.where(number < count, cut(start[number]), cut(target[number]))
        return jax.lax.dynamic_update_slice(image_HWC, patch, (*target[number], 0))

    return jax.lax.fori_loop(0, MAX_PATCHES, copy, image_HWC)


def pixelate(image_HWC, strength):
    """Reduce the image by the factor 0.95 - strength ** 0.6, then enlarge it to its size, both by nearest neighbour.

    float32 (H, W, 3) in 0..1, in and out. Source: KADID-10k data-set code, type 21.
    """
    scale = 0.95 - strength**0.6

    def source(size):
        small = jnp.ceil(size * scale).astype(jnp.int32)
        index = (2 * jnp.arange(size) + 1) * small // (2 * size)
        return jnp.minimum(jnp.floor((index + 0.5) / scale).astype(jnp.int32), size - 1)

    height, width, _ = image_HWC.shape
    return image_HWC[source(height)][:, source(width)]


def colour_block(image_HWC, count, key):
    """Fill `count` squares of 32 x 32 pixels at random places with random colours, both uniformly distributed.

    float32 (H, W, 3) in 0..1, in and out; count at most MAX_BLOCKS. Source: KADID-10k data-set code, type 23.
    """
    height, width, _ = image_HWC.shape
    place_key, colour_key = jax.random.split(key)
    last = jnp.array([height, width]) - BLOCK
    corner = jax.random.randint(place_key, (MAX_BLOCKS, 2), 0, jnp.broadcast_to(last + 1, (MAX_BLOCKS, 2)))
    colour = jax.random.uniform(colour_key, (MAX_BLOCKS, 3))

    def fill(number, image_HWC):
        block = jnp.broadcast_to(colour[number], (BLOCK, BLOCK, 3))
        there = jax.lax.dynamic_slice(image_HWC, (*corner[number], 0), (BLOCK, BLOCK, 3))
        block = jnp.where(number < count, block, there)
        return jax.lax.dynamic_update_slice(image_HWC, block, (*corner[number], 0))

    return jax.lax.fori_loop(0, MAX_BLOCKS, fill, image_HWC)


def _bicubic(image_HWC, offset_2HW):
    """Sample the image at every pixel plus its offset, by Keys' cubic convolution with a = -0.5."""
    height, width, _ = image_HWC.shape
    flat = image_HWC.reshape(-1, 3)

    def taps(size, position):
        base = jnp.floor(position)
        part = position - base
        weights = (
            ((-0.5 * part + 1) * part - 0.5) * part,
            (1.5 * part - 2.5) * part * part + 1,
            ((-1.5 * part + 2) * part + 0.5) * part,
            (0.5 * part - 0.5) * part * part,
        )
        index = base.astype(jnp.int32)
        return [(jnp.clip(index + k - 1, 0, size - 1), weight) for k, weight in enumerate(weights)]

    rows = taps(height, jnp.arange(height)[:, None] + offset_2HW[0])
    columns = taps(width, jnp.arange(width)[None, :] + offset_2HW[1])
    return sum(
        row_weight[..., None] * sum(weight[..., None] * flat[row * width + column] for column, weight in columns)
        for row, row_weight in rows
    )
