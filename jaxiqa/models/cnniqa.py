"""CNNIQA: a small network with one convolution scores patches of the image's luminance; the score is their mean.

Legend: B batch, H W image, N patches of an image, P = 32 side of a patch, F filters.
"""

import flax.linen as nn
import jax.numpy as jnp

from jaxiqa.models.blocks.layers import Conv, dense

PAPER = """Kang, Ye, Li and Doermann, "Convolutional Neural Networks for No-Reference Image Quality Assessment", CVPR
2014. Public PyTorch port and weights (trained on LIVE; DMOS, lower is better): lidq92/CNNIQA, licence not stated."""
MEAN = (0.0, 0.0, 0.0)
STD = (1.0, 1.0, 1.0)
TEST_CROPS = "whole"
# Keys of `out` that jaxiqa calibrate reads.
TAPS = ("pooled",)

VARIANTS = {"patch32": dict(), "test": dict(hidden=200)}

# The public port's names -> ours.
NAMES = {
    "mapped": (
        ("conv1", "conv1", "conv"),
        *((f"fc{i}", f"fc{i}", "linear") for i in (1, 2, 3)),
    ),
    "carried": (),
}

_P = 32


def luminance(x_BHWC):
    """8-bit luminance of RGB in 0..1, as Pillow's mode L rounds it: (B, H, W, 3) -> (B, H, W) of 0, 1/255, ... 1.

    Exact in fp32: the integers involved stay below 2^24.
    """
    rgb = jnp.round(255.0 * x_BHWC.astype(jnp.float32))
    grey = jnp.floor((19595.0 * rgb[..., 0] + 38470.0 * rgb[..., 1] + 7471.0 * rgb[..., 2] + 32768.0) / 65536.0)
    return grey / 255.0


def patches(y_BHW):
    """Patches that do not overlap, rows first: (B, H, W) -> (B, N, P, P); H and W at least 33.

    As in the public port, a patch starts only if more than P pixels are left. So the last row or column of patches is
    missing if a side is a multiple of P.
    """
    B, H, W = y_BHW.shape
    rows, columns = (H - 1) // _P, (W - 1) // _P
    y = y_BHW[:, : rows * _P, : columns * _P].reshape(B, rows, _P, columns, _P)
    return y.transpose(0, 1, 3, 2, 4).reshape(B, rows * columns, _P, _P)


def normalise_locally(p_BNPP):
    """(p - m) / (s + 1) with mean m and standard deviation s in a 3x3 box, edges mirrored."""
    padded = jnp.pad(p_BNPP, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="symmetric")
    box = [padded[..., i : i + _P, j : j + _P] for i in range(3) for j in range(3)]
    mean = sum(box) / 9.0
    variance = sum(jnp.square(b) for b in box) / 9.0 - jnp.square(mean)
    return (p_BNPP - mean) / (jnp.sqrt(jnp.maximum(variance, 0.0)) + 1.0)


class Model(nn.Module):
    """CNNIQA. A crop of 33 pixels is one patch; `stride` is the distance between patches of a whole image."""

    filters: int = 50
    hidden: int = 800
    dropout: float = 0.5
    crop_size: int = _P + 1
    stride: int = _P
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC, train: bool = False):
        """Images (B, H, W, 3), RGB in 0..1, sides of at least 33 pixels -> (score (B,), out).

        `out["patches"]` is (B, N, 32, 32) after the local normalisation, `out["pooled"]` is (B, N, 2F) and
        `out["scores"]` is (B, N). The score is the mean over the patches.
        """
        out = {}
        p = out["patches"] = normalise_locally(patches(luminance(x_BHWC)))
        B, N = p.shape[:2]
        maps = Conv(self.filters, 7, dtype=self.dtype, name="conv1")(p.reshape(B * N, _P, _P, 1))
        pooled = jnp.concatenate([maps.max((1, 2)), maps.min((1, 2))], axis=-1)
        out["pooled"] = pooled.reshape(B, N, -1)
        h = nn.relu(dense(pooled, self.hidden, name="fc1", dtype=self.dtype))
        h = nn.Dropout(self.dropout, deterministic=not train)(h)
        h = nn.relu(dense(h, self.hidden, name="fc2", dtype=self.dtype))
        scores = dense(h.astype(jnp.float32), 1, name="fc3", dtype=jnp.float32)
        out["scores"] = scores.reshape(B, N)
        return out["scores"].mean(1), out
