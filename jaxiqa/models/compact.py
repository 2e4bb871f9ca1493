"""Compact: a small residual network for CPUs, the network of the weights that come with jaxiqa.

It is jaxiqa's own and has no paper. Blur and noise show in the statistics of high frequencies, so the pooled features
are means and standard deviations of three stages, and the luminance after local normalisation is a fourth input.

Legend: B batch, H W grid, C channels.
"""

import flax.linen as nn
import jax.numpy as jnp

from jaxiqa.models.blocks.layers import BatchNorm, Conv, dense, normal_fan_out

PAPER = "jaxiqa's own. Local normalisation of luminance: Mittal, Moorthy and Bovik, IEEE TIP 2012 (BRISQUE)."
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
TEST_CROPS = "grid"

VARIANTS = {"c96": dict(), "test": dict(widths=(8, 8, 8), depths=(1, 1, 1), crop_size=64)}

NAMES = {  # of the files that jaxiqa convert writes
    "mapped": (
        ("stage{s}_conv", "stage{s}_conv", "conv"),
        ("stage{s}_bn", "stage{s}_bn", "batch_norm"),
        ("stage{s}_block{i}.conv{k}", "stage{s}_block{i}/conv{k}", "conv"),
        ("stage{s}_block{i}.bn{k}", "stage{s}_block{i}/bn{k}", "batch_norm"),
        ("pooled_bn", "pooled_bn", "batch_norm"),
        ("fc{i}", "fc{i}", "linear"),
    ),
    "carried": (),
}

_BOX = 7  # side of the window of the local normalisation, in pixels
_STABILISER = 0.04  # added to the local standard deviation: the noise of a flat sky stays small


def _channels(values, dtype=jnp.float32):
    return jnp.array(values, dtype).reshape(1, 1, 1, -1)


def local_contrast(x_BHWC):
    """(y - m) / (s + 0.04) of the luminance y of RGB in 0..1; m and s in a 7x7 box, edges repeated: (B, H, W, 1)."""
    y = (x_BHWC * _channels((0.299, 0.587, 0.114), x_BHWC.dtype)).sum(-1, keepdims=True)
    half = _BOX // 2
    padded = jnp.pad(y, ((0, 0), (half, half), (half, half), (0, 0)), mode="edge")

    def box(values):
        H, W = y.shape[1:3]
        values = sum(values[:, i : i + H] for i in range(_BOX))
        return sum(values[:, :, i : i + W] for i in range(_BOX)) / _BOX**2

    mean = box(padded)
    # The box of y - 0.5 loses less to rounding than that of y.
    variance = box(jnp.square(padded - 0.5)) - jnp.square(mean - 0.5)
    return (y - mean) / (jnp.sqrt(jnp.maximum(variance, 0.0) + 1e-6) + _STABILISER)


class _Block(nn.Module):
    """x + two 3x3 convolutions: (B, H, W, C) -> the same shape."""

    eval_bn: tuple[str, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BHWC, train: bool):
        C, init = x_BHWC.shape[-1], normal_fan_out()
        h = Conv(C, 3, padding=1, use_bias=False, kernel_init=init, dtype=self.dtype, name="conv1")(x_BHWC)
        h = nn.relu(BatchNorm(self.eval_bn, dtype=self.dtype, name="bn1")(h, train))
        h = Conv(C, 3, padding=1, use_bias=False, kernel_init=init, dtype=self.dtype, name="conv2")(h)
        bn2 = BatchNorm(self.eval_bn, dtype=self.dtype, scale_init=nn.initializers.zeros, name="bn2")
        return nn.relu(x_BHWC + bn2(h, train))


class Model(nn.Module):
    """Compact. Stage s halves the grid of the stage before and has `depths[s]` blocks of `widths[s]` channels."""

    widths: tuple[int, ...] = (16, 32, 64)
    depths: tuple[int, ...] = (1, 2, 2)
    hidden: int = 64
    dropout: float = 0.1
    crop_size: int = 96
    eval_bn: tuple[str, ...] = ()
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC, train: bool = False):
        """Normalised images (B, H, W, 3), sides of at least 64 pixels -> (score (B,), out).

        `out["pooled"]` is (B, 2 sum(widths)): for each stage, the mean and the standard deviation of each channel.
        """
        out = {}
        rgb = x_BHWC.astype(jnp.float32) * _channels(self.std) + _channels(self.mean)
        h = jnp.concatenate([x_BHWC.astype(jnp.float32), local_contrast(rgb)], axis=-1)
        pooled = []
        for s, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True)):
            h = Conv(
                width,
                3,
                2,
                1,
                use_bias=False,
                kernel_init=normal_fan_out(),
                dtype=self.dtype,
                name=f"stage{s}_conv",
            )(h)
            h = nn.relu(BatchNorm(self.eval_bn, dtype=self.dtype, name=f"stage{s}_bn")(h, train))
            for i in range(depth):
                h = _Block(self.eval_bn, self.dtype, name=f"stage{s}_block{i}")(h, train)
            maps = h.astype(jnp.float32)
            mean = maps.mean((1, 2))
            deviation = jnp.sqrt(jnp.square(maps - mean[:, None, None]).mean((1, 2)) + 1e-4)
            pooled += [mean, deviation]
        out["pooled"] = jnp.concatenate(pooled, axis=-1)
        z = BatchNorm(self.eval_bn, dtype=jnp.float32, name="pooled_bn")(out["pooled"], train)
        z = nn.relu(dense(z, self.hidden, name="fc1", dtype=jnp.float32))
        z = nn.Dropout(self.dropout, deterministic=not train)(z)
        return dense(z, 1, name="fc2", dtype=jnp.float32)[:, 0], out
