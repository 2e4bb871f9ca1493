"""Blocks that several models share. B batch, H W grid, C channels, N tokens, D width.

Initialisers draw flat arrays and reshape them: the numbers are the same, but XLA compiles them ten times as fast on a
CPU.
"""

import math
import re
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def uniform_fan_in(fan_in: int):
    """Returns the initialiser U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default for weights and biases."""
    limit = 1.0 / np.sqrt(fan_in)

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, (math.prod(shape),), dtype, -limit, limit).reshape(shape)

    return init


def normal_fan_out(groups: int = 1):
    """Returns the initialiser N(0, 2 / fan_out) for a kernel (K, K, C / groups, F), whose fan-out is K K F / groups."""

    def init(key, shape, dtype=jnp.float32):
        deviation = math.sqrt(2.0 * groups / (shape[0] * shape[1] * shape[3]))
        return deviation * jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)

    return init


def dense(x, features: int, *, name: str, dtype):
    """Linear layer over the last axis, (..., C) -> (..., features), with PyTorch's default initialisation."""
    init = uniform_fan_in(x.shape[-1])
    return nn.Dense(features, kernel_init=init, bias_init=init, dtype=dtype, name=name)(x)


class Conv(nn.Module):
    """Square convolution, (B, H, W, C) -> (B, H', W', features), by default with PyTorch's default initialisation.

    If the windows do not overlap, it is a matrix product: the result is the same, and it is several times faster on a
    CPU, most of all in the backward pass.
    """

    features: int
    kernel: int
    stride: int = 1
    padding: int = 0
    use_bias: bool = True
    kernel_init: Callable | None = None
    dtype: jnp.dtype = jnp.float32
    bias_init: Callable | None = None

    @nn.compact
    def __call__(self, x_BHWC):
        K, S, F = self.kernel, self.stride, self.features
        B, H, W, C = x_BHWC.shape
        init = uniform_fan_in(K * K * C)
        kernel = self.param("kernel", self.kernel_init or init, (K, K, C, F)).astype(self.dtype)
        x_BHWC = x_BHWC.astype(self.dtype)
        if K == 1 and not self.padding:
            x_BHWC = x_BHWC[:, ::S, ::S] @ kernel[0, 0]
        elif K == S and not self.padding:
            h, w = H // K, W // K
            windows = x_BHWC[:, : h * K, : w * K].reshape(B, h, K, w, K, C).transpose(0, 1, 3, 2, 4, 5)
            x_BHWC = windows.reshape(B, h, w, K * K * C) @ kernel.reshape(K * K * C, F)
        else:
            x_BHWC = jax.lax.conv_general_dilated(
                x_BHWC, kernel, (S, S), ((self.padding,) * 2,) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        if self.use_bias:
            x_BHWC += self.param("bias", self.bias_init or init, (F,)).astype(self.dtype).reshape(1, 1, 1, F)
        return x_BHWC


def gelu(x):
    """Exact (erf) GELU, as PyTorch computes it."""
    return nn.gelu(x, approximate=False)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, with PyTorch's arithmetic: (..., C) -> (..., C).

    Statistics are fp32 and over the whole (global) batch. The running variance is unbiased; that of
    flax.linen.BatchNorm is not. In training, layers whose module path matches a regular expression in `eval_bn` use
    their running statistics and do not update them.
    """

    eval_bn: tuple[str, ...] = ()
    momentum: float = 0.1
    eps: float = 1e-5
    dtype: jnp.dtype = jnp.float32
    scale_init: Callable = nn.initializers.ones

    @nn.compact
    def __call__(self, x, train: bool):
        shape = (1,) * (x.ndim - 1) + (x.shape[-1],)
        scale = self.param("scale", self.scale_init, shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, shape[-1:])
        ra_mean = self.variable("batch_stats", "mean", jnp.zeros, shape[-1:], jnp.float32)
        ra_var = self.variable("batch_stats", "var", jnp.ones, shape[-1:], jnp.float32)
        path = "/".join(self.path) + "/"
        if train and not any(re.search(pattern, path) for pattern in self.eval_bn):
            axes = tuple(range(x.ndim - 1))
            x32 = x.astype(jnp.float32)
            mean = x32.mean(axes)
            var = jnp.square(x32 - mean.reshape(shape)).mean(axes)
            if not self.is_initializing():
                count = x.size // x.shape[-1]
                unbiased = var * (count / max(count - 1, 1))
                ra_mean.value += self.momentum * (mean - ra_mean.value)
                ra_var.value += self.momentum * (unbiased - ra_var.value)
        else:
            mean, var = ra_mean.value, ra_var.value
        gain = scale * jax.lax.rsqrt(var + self.eps)
        shift = bias - mean * gain
        return (x * gain.reshape(shape) + shift.reshape(shape)).astype(self.dtype)
