"""Colour quantisation: a palette for each image, and error diffusion onto it.

Like MATLAB's `rgb2ind`, it cuts the colour cube into boxes of small variance and dithers (Floyd-Steinberg). All
arithmetic is in integers, so that an image has the same palette on any device.
Legend: R G B bins of the colour cube, P palette.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxiqa.distortions.eight_bits import to_uint8

MAX_COLOURS = 64
BINS = 32  # along a side of the colour cube: 5 bits per channel, as in `rgb2ind`
_COUNTED = 2**23  # number of pixels that can be summed in int32
_CORNERS = np.array([[r, g, b] for r in (0, 1) for g in (0, 1) for b in (0, 1)])


def colour_quantisation(image_HWC, colours):
    """Reduce the image to a palette of at most `colours` colours, with Floyd-Steinberg dither.

    float32 (H, W, 3) in 0..1, in and out, in steps of 1/255; colours 1..MAX_COLOURS, may be traced. An image with
    fewer colours has a smaller palette. Source: KADID-10k data-set code, type 6; the cuts follow X. Wu, "Efficient
    statistical computations for optimal color quantization" (Graphics Gems II), greedy in the error that a cut saves.
    """
    pixels_HWC = to_uint8(jnp.clip(image_HWC, 0, 1)).astype(jnp.int32)
    palette_P3, used_P = _palette(pixels_HWC, colours.astype(jnp.int32))
    # MATLAB stores and dithers an image column by column; KADID-10k's dither patterns show it.
    dithered_WHC = _dither(pixels_HWC.transpose(1, 0, 2), palette_P3, used_P)
    return dithered_WHC.transpose(1, 0, 2).astype(jnp.float32) / 255


def _palette(pixels_HWC, colours):
    """Returns the mean colours of the boxes, int32 (MAX_COLOURS, 3) in 0..255, and which of them are used."""
    table = _moments(pixels_HWC)

    def moments(low, high):  # of the boxes low <= bin < high, (..., 4): count, sums of R, G, B
        index = jnp.where(_CORNERS == 1, high[..., None, :], low[..., None, :])
        sign = jnp.asarray((-1) ** (3 - _CORNERS.sum(axis=1)))[:, None]
        corners = table[index[..., 0], index[..., 1], index[..., 2]]
        return (corners * jnp.broadcast_to(sign, corners.shape)).sum(axis=-2)

    def best_cut(low, high):
        """Returns the largest squared error that one cut of a box can save, and the cut's axis and position."""
        axis, position = jnp.arange(3)[:, None], jnp.arange(BINS + 1)[None, :]
        position = jnp.clip(position, low[:, None], high[:, None])
        here = (axis == jnp.arange(3)[None, :])[:, None, :]
        upper = jnp.where(here, position[:, :, None], jnp.broadcast_to(high, (3, 1, 3)))
        left = moments(jnp.broadcast_to(low, upper.shape), upper).astype(jnp.float32)
        right = moments(low, high).astype(jnp.float32)[None, None, :] - left
        mean = lambda half: half[..., 1:] / jnp.maximum(half[..., :1], 1)  # noqa: E731
        distance = ((mean(left) - mean(right)) ** 2).sum(axis=-1)
        count = jnp.maximum(left[..., 0] + right[..., 0], 1)
        saved = left[..., 0] * right[..., 0] / count * distance
        best = saved.argmax()
        return saved.reshape(-1)[best], best // (BINS + 1), position.reshape(-1)[best]

    def cut(number, boxes):
        low, high, saved, axis, position = boxes
        worst = saved.argmax()
        here = jnp.arange(3) == axis[worst]
        upper = jnp.where(here, position[worst], high[worst])
        lower = jnp.where(here, position[worst], low[worst])
        now = (low.at[number].set(lower), high.at[number].set(high[worst]).at[worst].set(upper))
        cuts = jax.vmap(best_cut)(now[0][jnp.stack([worst, number])], now[1][jnp.stack([worst, number])])
        now += tuple(old.at[worst].set(new[0]).at[number].set(new[1]) for old, new in zip(boxes[2:], cuts, strict=True))
        wanted = (number < colours) & (saved[worst] > 0)
        return jax.tree.map(lambda new, old: jnp.where(wanted, new, old), now, boxes)

    first = jnp.zeros(3, jnp.int32), jnp.full(3, BINS)
    boxes = tuple(
        jnp.zeros((MAX_COLOURS, *jnp.shape(x)), jnp.asarray(x).dtype).at[0].set(x) for x in (*first, *best_cut(*first))
    )
    low, high, *_ = jax.lax.fori_loop(1, MAX_COLOURS, cut, boxes)
    total = moments(low, high)
    used = total[:, 0] > 0
    count = jnp.maximum(total[:, :1], 1)
    return (2 * total[:, 1:] + count) // (2 * count), used


def _moments(pixels_HWC):
    """Returns count and sums of R, G, B in all bins below (r, g, b): int32 (BINS + 1, BINS + 1, BINS + 1, 4)."""
    height, width, _ = pixels_HWC.shape
    every = 1 + height * width // _COUNTED
    flat = pixels_HWC.reshape(-1, 3)[::every]
    bin_ = flat * BINS // 256
    index = (bin_[:, 0] * BINS + bin_[:, 1]) * BINS + bin_[:, 2]
    table = jnp.zeros((BINS**3, 4), jnp.int32).at[index].add(jnp.pad(flat, ((0, 0), (1, 0)), constant_values=1))
    table = table.reshape(BINS, BINS, BINS, 4)
    for axis in range(3):
        table = jnp.cumsum(table, axis=axis)
    return jnp.pad(table, ((1, 0), (1, 0), (1, 0), (0, 0)))


def _dither(pixels_HWC, palette_P3, used_P):
    """Diffuse errors onto the used colours, row by row from the left: int32 (H, W, 3).

    A pixel depends on its left neighbour and on three pixels above it. So pixel (y, x) is processed in step x + 2 y,
    together with one pixel of each other row.
    """
    height, width, _ = pixels_HWC.shape
    nearest = _nearest(palette_P3, used_P)
    row = jnp.arange(height)[None, :]
    column_TH = jnp.arange(width + 2 * (height - 1))[:, None] - 2 * row
    inside_TH = (column_TH >= 0) & (column_TH < width)
    wave_TH3 = pixels_HWC[jnp.broadcast_to(row, column_TH.shape), jnp.clip(column_TH, 0, width - 1)]
    below = lambda error_H3: jnp.pad(error_H3[:-1], ((1, 0), (0, 0)))  # noqa: E731

    def advance(errors, step):
        one, two, three = errors  # the errors of one, two and three steps ago, by row
        pixel_H3, inside_H = step
        diffused = (7 * one + 3 * below(one) + 5 * below(two) + below(three) + 8) >> 4
        wanted_H3 = jnp.clip(pixel_H3 + diffused, 0, 255)
        bin_H3 = wanted_H3 * BINS // 256
        index_H = nearest[(bin_H3[:, 0] * BINS + bin_H3[:, 1]) * BINS + bin_H3[:, 2]]
        error_H3 = jnp.where(inside_H[:, None], wanted_H3 - palette_P3[index_H], 0)
        return (error_H3, one, two), index_H

    start = (jnp.zeros((height, 3), jnp.int32),) * 3
    index_TH = jax.lax.scan(advance, start, (wave_TH3, inside_TH))[1]
    y, x = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
    return palette_P3[index_TH[x + 2 * y, jnp.broadcast_to(y, (height, width))]]


def _nearest(palette_P3, used_P):
    """Returns the nearest used colour of each bin of the colour cube: int32 (BINS ** 3,)."""
    centre = (jnp.arange(BINS) * 256 + 128) // BINS
    square_P = (palette_P3[:, :, None] - centre[None, None, :]) ** 2  # (P, 3, BINS)
    red, green, blue = square_P[:, 0, :, None, None], square_P[:, 1, None, :, None], square_P[:, 2, None, None, :]
    distance = jnp.where(used_P[:, None, None, None], red + green + blue, jnp.iinfo(jnp.int32).max)
    return distance.argmin(axis=0).reshape(-1)
