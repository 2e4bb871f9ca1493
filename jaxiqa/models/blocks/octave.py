"""Octave convolution: a map has a high-frequency part and a low-frequency part at half the resolution.

B batch, H W grid of the high part, C channels. Source: Chen et al., "Drop an Octave", ICCV 2019, arXiv 1904.05049; the
strided form follows the public PyTorch ports.
"""

import flax.linen as nn
import jax.numpy as jnp

from jaxiqa.models.blocks.layers import Conv


def pool2(x_BHWC):
    """2x2 average pooling with stride 2, (B, H, W, C) -> (B, H // 2, W // 2, C); an odd last row or column is left out.

    It is a mean over a reshaped map, whose gradient is a cheap broadcast.
    """
    B, H, W, C = x_BHWC.shape
    h, w = H // 2, W // 2
    return x_BHWC[:, : 2 * h, : 2 * w].reshape(B, h, 2, w, 2, C).mean((2, 4))


def upsample2(x_BHWC, height: int, width: int):
    """Nearest-neighbour upsampling by 2, (B, h, w, C) -> (B, height, width, C), where pool2 made h, w of height, width.

    If a side is odd, its last row or column is repeated once more, for the one that pool2 left out.
    """
    B, h, w, C = x_BHWC.shape
    x_BHWC = jnp.broadcast_to(x_BHWC[:, :, None, :, None], (B, h, 2, w, 2, C)).reshape(B, 2 * h, 2 * w, C)
    return jnp.pad(x_BHWC, ((0, 0), (0, height - 2 * h), (0, width - 2 * w), (0, 0)), mode="edge")


class OctaveConv(nn.Module):
    """3x3 octave convolution without bias. Its kernels h2h, h2l, l2h and l2l go from high or low to high or low.

    `high` and `low` are the channels of the two output parts. With `stride` 2 both have half the resolution: the high
    part is pooled first, and the low part already has the new high resolution.
    """

    high: int
    low: int
    stride: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, high_BHWC, low_BHWC=None):
        """High (B, H, W, C) and low (B, H // 2, W // 2, C') or None -> (high, low) of the output.

        With `low` 0 the kernels to the low part are not built, and the low output is None.
        """

        def conv(x_BHWC, features, name):
            return Conv(features, 3, 1, 1, False, dtype=self.dtype, name=name)(x_BHWC)

        strided = self.stride == 2
        if strided:
            high_BHWC = pool2(high_BHWC)
        to_high = conv(high_BHWC, self.high, "h2h")
        to_low = conv(pool2(high_BHWC), self.low, "h2l") if self.low else None
        if low_BHWC is not None:
            from_low = conv(low_BHWC, self.high, "l2h")
            to_high += from_low if strided else upsample2(from_low, *to_high.shape[1:3])
            if self.low:
                to_low += conv(pool2(low_BHWC) if strided else low_BHWC, self.low, "l2l")
        return to_high, to_low
