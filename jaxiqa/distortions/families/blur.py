"""Blurs: Gaussian, lens (disk) and motion, all with replicated edges.

Kernels are computed from the level's parameter on a grid of the largest support. So the parameter may be traced, and
one compiled function serves all levels.
"""

import math

import jax
import jax.numpy as jnp

MAX_SIGMA = 5.0
MAX_RADIUS = 8
MAX_LENGTH = 10


def gaussian_blur(image_HWC, sigma):
    """Gaussian blur of every channel.

    float32 (H, W, 3) in 0..1, in and out; sigma in pixels, at most MAX_SIGMA.
    Source: KADID-10k data-set code, type 1.
    """
    return separable_gaussian(image_HWC, sigma, MAX_SIGMA)


def lens_blur(image_HWC, radius):
    """Blur with an anti-aliased disk: each tap is the area of its pixel inside the circle.

    float32 (H, W, 3) in 0..1, in and out; radius in pixels, at most MAX_RADIUS.
    Source: KADID-10k data-set code, type 2.
    """
    edge = jnp.arange(-MAX_RADIUS, MAX_RADIUS + 2) - 0.5
    area = _disk_area(edge[:, None], edge[None, :], radius)
    return _correlate(image_HWC, jnp.diff(jnp.diff(area, axis=0), axis=1) / (math.pi * radius**2))


def motion_blur(image_HWC, length, key):
    """Linear motion blur at an angle drawn uniformly from 0, 1, .. 180 degrees.

    float32 (H, W, 3) in 0..1, in and out; length in pixels, at most MAX_LENGTH.
    Source: KADID-10k data-set code, type 3.
    """
    return _correlate(image_HWC, motion_kernel(length, jax.random.randint(key, (), 0, 181)))


def motion_kernel(length, degrees):
    """Returns the kernel of a one pixel wide line, counter-clockwise from the row axis: float32 (side, side), sum 1.

    A tap decreases linearly with its distance to the line segment and is 0 from one pixel on (MATLAB's `fspecial`).
    """
    reach = MAX_LENGTH // 2
    angle = jnp.deg2rad(degrees % 180)
    half = (length - 1) / 2
    right = jnp.arange(-reach, reach + 1.0)[None, :]
    up = -right.T
    along = jnp.abs(right * jnp.cos(angle) + up * jnp.sin(angle))
    across = jnp.abs(up * jnp.cos(angle) - right * jnp.sin(angle))
    beyond_end = jnp.hypot(right, up) >= half
    distance = jnp.where(beyond_end, jnp.hypot(across, along - half), across)
    weight = jnp.where(across <= 1, jnp.maximum(1 - distance, 0), 0)
    return weight / weight.sum()


def separable_gaussian(image_HWC, sigma, max_sigma):
    """Gaussian blur with MATLAB's support of 2 * ceil(2 * sigma) + 1 pixels a side.

    float32 (H, W, C) in and out, any C and range; sigma in pixels, at most the static max_sigma.
    """
    reach = math.ceil(2 * max_sigma)

    # A product with a banded matrix is ten times as fast on a CPU as XLA's convolution.
    def band(size):
        offset = jnp.arange(size + 2 * reach)[None, :] - jnp.arange(size)[:, None] - reach
        weight = jnp.where(jnp.abs(offset) <= jnp.ceil(2 * sigma), jnp.exp(-(offset**2) / (2 * sigma**2)), 0)
        return weight / weight.sum(axis=1, keepdims=True)

    height, width, _ = image_HWC.shape
    padded = jnp.pad(image_HWC, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    rows = jnp.einsum("hp,pqc->hqc", band(height), padded, precision=jax.lax.Precision.HIGHEST)
    return jnp.einsum("wq,hqc->hwc", band(width), rows, precision=jax.lax.Precision.HIGHEST)


def _disk_area(x, y, radius):
    """Returns the area of a disk at the origin inside the rectangle from 0 to (x, y), signed by quadrant."""

    def under_circle(u):
        return (u * jnp.sqrt(jnp.maximum(radius**2 - u**2, 0)) + radius**2 * jnp.arcsin(u / radius)) / 2

    width, height = jnp.minimum(jnp.abs(x), radius), jnp.minimum(jnp.abs(y), radius)
    flat = jnp.minimum(width, jnp.sqrt(radius**2 - height**2))  # up to here the rectangle lies inside
    return jnp.sign(x) * jnp.sign(y) * (flat * height + under_circle(width) - under_circle(flat))


def _correlate(image_HWC, kernel):
    """Dense correlation with an odd square kernel, one kernel row per step (8x faster on a CPU than a convolution)."""
    height, width, _ = image_HWC.shape
    side = kernel.shape[0]
    reach = side // 2
    padded = jnp.pad(image_HWC, ((reach, reach), (reach, reach), (0, 0)), mode="edge")

    def add_row(total, step):
        row, taps = step
        rows = jax.lax.dynamic_slice_in_dim(padded, row, height)
        return total + sum(taps[j] * rows[:, j : j + width] for j in range(side)), None

    return jax.lax.scan(add_row, jnp.zeros_like(image_HWC), (jnp.arange(side), kernel))[0]
