"""Compact: statistics of natural images and a small perceptron, the network of the weights that come with jaxiqa.

It is jaxiqa's own and has no paper. Photographs have regular statistics that distortions disturb: locally normalised
luminance is almost Gaussian, gradients fall in a known way from scale to scale. So 195 statistics of a crop are fixed,
and only a perceptron on them is trained. That takes minutes on a CPU.

Legend: B batch, H W grid of one scale, F statistics.
"""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxiqa.models.blocks.layers import BatchNorm, dense, gelu

PAPER = """jaxiqa's own. Statistics of locally normalised luminance and of products of neighbours: Mittal, Moorthy and
Bovik, "No-Reference Image Quality Assessment in the Spatial Domain", IEEE TIP 21, 2012 (BRISQUE)."""
MEAN = (0.0, 0.0, 0.0)
STD = (1.0, 1.0, 1.0)
TEST_CROPS = "grid"
# Keys of `out` that jaxiqa calibrate reads.
TAPS = ("pooled",)

VARIANTS = {"s195": dict(), "test": dict(hidden=(16, 8), crop_size=64)}

NAMES = {  # of the files that jaxiqa convert writes
    "mapped": (("normalise", "normalise", "batch_norm"), ("fc{i}", "fc{i}", "linear")),
    "carried": (),
}

_SCALES = 4  # each half the size of the one before
_BOX = 5  # side of the window of the local normalisation, in pixels
_FLAT = 1e-4  # added before logarithms: values in 0..1 that differ by less look the same


def statistics(x_BHWC):
    """The statistics of RGB in 0..1, sides of at least 64 pixels: (B, H, W, 3) -> (B, 195) fp32."""
    red, green, blue = (x_BHWC[..., i].astype(jnp.float32) for i in range(3))
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    found, levels, scaled = [], [], y
    for _ in range(_SCALES):
        levels.append(_of_gradients(scaled, found))
        _of_local_contrast(scaled, found)
        scaled = _half(scaled)
    for fine, coarse in itertools.pairwise(levels):
        found += [a - b for a, b in zip(fine, coarse, strict=True)]
    for steps in (jnp.abs(y[:, :, 1:] - y[:, :, :-1]).mean(1), jnp.abs(y[:, 1:] - y[:, :-1]).mean(2)):
        found += _of_blocks(steps, (3, -2, 0))
    found += [_mean(jnp.exp(-jnp.square(d) * 4e5)) for d in (y[:, 1:] - y[:, :-1], y[:, :, 1:] - y[:, :, :-1])]
    for chroma in (blue - y, red - y):
        _of_chroma(chroma, found)
    spread = jnp.sqrt(jnp.maximum(_mean(y * y) - _mean(y) ** 2, 0.0) + 1e-6)
    found += [_mean(y), spread, y.min((1, 2)), y.max((1, 2))]
    found += [_mean(jax.nn.sigmoid((0.02 - y) * 400)), _mean(jax.nn.sigmoid((y - 0.98) * 400))]  # black, white
    saturation = jnp.maximum(jnp.maximum(red, green), blue) - jnp.minimum(jnp.minimum(red, green), blue)
    found += [_mean(saturation), jnp.sqrt(_mean(saturation * saturation))]
    _of_registration((red + blue) / 2, green, found)
    for axis in (2, 1):
        _of_copies(y, axis, found)
    return jnp.stack(found, axis=-1)


def _mean(v_BHW):
    return v_BHW.mean((1, 2))


def _log(v):
    return jnp.log(v + _FLAT)


def _half(x_BHW):
    H, W = x_BHW.shape[1:]
    x = x_BHW[:, : H // 2 * 2, : W // 2 * 2]
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def _box(x_BHW):
    """Mean in a window, edges repeated: the same shape."""
    half, (H, W) = _BOX // 2, x_BHW.shape[1:]
    padded = jnp.pad(x_BHW, ((0, 0), (half, half), (half, half)), mode="edge")
    rows = sum(padded[:, i : i + H] for i in range(_BOX))
    return sum(rows[:, :, i : i + W] for i in range(_BOX)) / _BOX**2


def _of_gradients(z, found):
    """Adds statistics of first and second differences; returns the five that are compared between scales."""
    dx, dy = z[:, :-1, 1:] - z[:, :-1, :-1], z[:, 1:, :-1] - z[:, :-1, :-1]
    gradient = jnp.sqrt(dx * dx + dy * dy + 1e-10)
    centre = z[:, 1:-1, 1:-1]
    d2x = z[:, 1:-1, 2:] - 2 * centre + z[:, 1:-1, :-2]
    d2y = z[:, 2:, 1:-1] - 2 * centre + z[:, :-2, 1:-1]
    laplacian = jnp.abs(d2x + d2y)
    power = [_log(jnp.sqrt(_mean(v * v))) for v in (gradient, laplacian)]
    peak = [_log(_mean(v**8) ** 0.125) for v in (gradient, laplacian)]
    mean = [_log(_mean(v)) for v in (gradient, laplacian)]
    found += [*mean, *power, *peak]
    found += [_log(_mean(jnp.abs(a))) - _log(_mean(jnp.abs(b))) for a, b in ((dx, dy), (d2x, d2y))]
    found += [_log(_mean(jnp.abs(d2x - d2y)))]
    found += [_mean(jnp.log(v + 0.002)) for v in (gradient, laplacian)]
    return [*mean, *peak, power[1]]


def _of_local_contrast(z, found):
    """Adds moments of locally normalised luminance, products of its neighbours, and the local contrast itself."""
    mean = _box(z)
    contrast = jnp.sqrt(jnp.maximum(_box(z * z) - mean * mean, 0.0) + 1e-7)
    n = (z - mean) / (contrast + 0.004)
    square = n * n
    found += [_mean(square), _mean(jnp.abs(n)), _mean(square * square), _mean(square * n)]
    neighbours = (
        (n[:, :, 1:], n[:, :, :-1]),
        (n[:, 1:], n[:, :-1]),
        (n[:, 1:, 1:], n[:, :-1, :-1]),
        (n[:, :, 2:], n[:, :, :-2]),
        (n[:, 2:], n[:, :-2]),
    )
    for a, b in neighbours:
        found += [_mean(a * b), _mean(jnp.abs(a * b))]
    found += [_log(_mean(contrast)), _mean(jnp.log(contrast + 0.002))]
    found += [_mean(jnp.exp(-contrast * 200)), _mean(jnp.exp(-contrast * 50)), _log(_mean(contrast**4) ** 0.25)]


def _of_blocks(steps_BN, ranks):
    """Log ratios between the eight phases of a row of mean steps. Coding in 8x8 blocks makes one phase large."""
    whole = steps_BN[:, : steps_BN.shape[1] // 8 * 8].reshape(steps_BN.shape[0], -1, 8).mean(1)
    phases = jnp.sort(whole, axis=-1)
    largest, median = phases[:, -1] + _FLAT, phases[:, 3] + _FLAT
    of = {3: largest / median, -2: largest / (phases[:, -2] + _FLAT), 0: (phases[:, 0] + _FLAT) / median}
    return [jnp.log(of[rank]) for rank in ranks]


def _of_chroma(c, found):
    """Adds the amount of a chroma channel, its mean steps at three scales, and its blocks."""
    found += [_log(_mean(jnp.abs(c))), _log(jnp.sqrt(_mean(c * c))), _mean(c)]
    scaled = c
    for _ in range(3):
        steps = scaled[:, :, 1:] - scaled[:, :, :-1], scaled[:, 1:] - scaled[:, :-1]
        found += [_log(_mean(jnp.abs(step))) for step in steps]
        scaled = _half(scaled)
    found += _of_blocks(jnp.abs(c[:, :, 1:] - c[:, :, :-1]).mean(1), (3,))


def _of_registration(other, green, found):
    """Adds how well green lies on the other channels: correlations of their steps at four scales.

    The second of a pair is odd: the correlation one step to one side, minus that to the other side.
    """
    for _ in range(_SCALES):
        for axis in (2, 1):
            a, b = jnp.diff(other, axis=axis), jnp.diff(green, axis=axis)
            size = jnp.sqrt((_mean(a * a) + 1e-6) * (_mean(b * b) + 1e-6))
            first, second = ((slice(None),) * axis + (part,) for part in (slice(-1), slice(1, None)))
            found += [_mean(a * b) / size, (_mean(a[first] * b[second]) - _mean(a[second] * b[first])) / size]
        other, green = _half(other), _half(green)


def _of_copies(y, axis, found):
    """Adds how many rows (axis 1) or columns (axis 2) repeat the one before, and the strength of straight edges.

    An edge is a step that is larger than its neighbours along the axis; it is averaged over 16 pixels across the axis.
    """
    steps = jnp.abs(jnp.diff(y, axis=axis))
    rows = steps.mean(3 - axis)
    mean = rows.mean(1, keepdims=True) + 2e-3
    found += [jnp.exp(-20 * rows / mean).mean(1), jnp.log((rows * rows).mean(1) / mean[:, 0] ** 2 + 0.1)]
    at = [jnp.moveaxis(steps, axis, 1)[:, i : steps.shape[axis] - 2 + i] for i in range(3)]
    edges = jnp.maximum(at[1] - jnp.maximum(at[0], at[2]), 0.0)
    edges = edges[..., : edges.shape[2] // 16 * 16].reshape(*edges.shape[:2], -1, 16).mean(3)
    found += [_log(_mean(edges**4) ** 0.25), _log(_mean(edges))]


class Model(nn.Module):
    """Compact. In training, noise of standard deviation `noise` is added to the normalised statistics."""

    hidden: tuple[int, ...] = (256, 64)
    dropout: float = 0.4
    noise: float = 0.3
    crop_size: int = 96
    eval_bn: tuple[str, ...] = ()
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC, train: bool = False):
        """Images (B, H, W, 3), RGB in 0..1, sides of at least 64 pixels -> (score (B,), out).

        `out["pooled"]` is (B, 195): the normalised statistics. Everything is computed in fp32. The statistics (B, 195)
        may be given instead of the images.
        """
        s = statistics(x_BHWC) if x_BHWC.ndim == 4 else x_BHWC
        s = BatchNorm(self.eval_bn, dtype=jnp.float32, name="normalise")(s, train)
        out = {"pooled": jnp.clip(s, -5.0, 5.0)}
        z = out["pooled"]
        if train and self.noise:
            z += self.noise * jax.random.normal(self.make_rng("dropout"), z.shape)
        for i, width in enumerate(self.hidden):
            z = nn.Dropout(self.dropout, deterministic=not train)(
                gelu(dense(z, width, name=f"fc{i + 1}", dtype=jnp.float32))
            )
        return dense(z, 1, name=f"fc{len(self.hidden) + 1}", dtype=jnp.float32)[:, 0], out
