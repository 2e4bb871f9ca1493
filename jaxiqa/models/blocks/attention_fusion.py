"""Fusion of a main map with a guest map of the same shape. B batch, H W grid, C channels.

Source of the attention: Dai et al., "Attentional Feature Fusion", WACV 2021, arXiv 2009.14082. MFEN's ablation compares
it with the other forms.
"""

import flax.linen as nn
import jax.numpy as jnp

from jaxiqa.models.blocks.layers import BatchNorm, Conv

FORMS = ("aff", "spatial_gate", "concat", "add")
_REDUCTION = 4


def _identity_kernel(key, shape, dtype=jnp.float32):
    """Returns a 1x1 kernel (1, 1, 2C, C) that keeps the first C channels and drops the others."""
    return jnp.eye(*shape[2:], dtype=dtype).reshape(shape)


class ChannelAttention(nn.Module):
    """1x1 to C / 4, BatchNorm, ReLU, 1x1 back to C, BatchNorm: (B, H, W, C) -> (B, H, W, C).

    With `zero_start` the last BatchNorm's scale is initially 0, and so is the output.
    """

    zero_start: bool
    eval_bn: tuple[str, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BHWC, train: bool):
        scales = nn.initializers.ones, nn.initializers.zeros if self.zero_start else nn.initializers.ones
        for k, (C, scale) in enumerate(zip((x_BHWC.shape[-1] // _REDUCTION, x_BHWC.shape[-1]), scales, strict=True), 1):
            # Biases start at 0, because BatchNorm removes what they add.
            x_BHWC = Conv(C, 1, bias_init=nn.initializers.zeros, dtype=self.dtype, name=f"conv{k}")(x_BHWC)
            x_BHWC = BatchNorm(self.eval_bn, dtype=self.dtype, scale_init=scale, name=f"bn{k}")(x_BHWC, train)
            x_BHWC = nn.relu(x_BHWC) if k == 1 else x_BHWC
        return x_BHWC


class Fusion(nn.Module):
    """Fuses main X and guest Y in one of four forms: (B, H, W, C), (B, H, W, C) -> (B, H, W, C).

      aff           M X + (1 - M) Y, times `factor`, with M = sigmoid(L(U) + G(mean of U over the grid)), U = X + Y, and
                    L and G a ChannelAttention each
      spatial_gate  X + X sigmoid(7x7 convolution of Y's mean and maximum over channels)
      concat        1x1 convolution of both
      add           X + Y

    With `identity_start` the output is initially X, bit for bit: for "concat" with any guest; for "add" and "aff" (with
    factor 2, because the mask is initially 1/2) if the guest is initially 0. "spatial_gate" does not have this start.
    """

    form: str = "aff"
    factor: float = 1.0
    identity_start: bool = False
    eval_bn: tuple[str, ...] = ()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC, y_BHWC, train: bool):
        C = x_BHWC.shape[-1]
        if self.form == "aff":
            sum_BHWC = x_BHWC + y_BHWC
            mean_B11C = sum_BHWC.astype(jnp.float32).mean((1, 2), keepdims=True)
            local, overall = (
                ChannelAttention(self.identity_start, self.eval_bn, self.dtype, name=name)(u, train)
                for name, u in (("local_att", sum_BHWC), ("global_att", mean_B11C))
            )
            mask = nn.sigmoid(local + overall)
            return self.factor * (mask * x_BHWC + (1 - mask) * y_BHWC)
        if self.form == "spatial_gate":
            summary = jnp.stack([y_BHWC.mean(-1), y_BHWC.max(-1)], axis=-1)
            gate = Conv(1, 7, padding=3, use_bias=False, dtype=self.dtype, name="gate")(summary)
            return x_BHWC + x_BHWC * nn.sigmoid(gate)
        if self.form == "concat":
            init = dict(kernel_init=_identity_kernel, bias_init=nn.initializers.zeros) if self.identity_start else {}
            both = jnp.concatenate([x_BHWC, y_BHWC], axis=-1)
            return Conv(C, 1, dtype=self.dtype, **init, name="conv")(both)
        if self.form == "add":
            return x_BHWC + y_BHWC
        raise ValueError(f"fusion {self.form!r} is not one of {', '.join(FORMS)}")
