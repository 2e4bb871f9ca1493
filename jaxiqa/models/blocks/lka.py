"""Depthwise convolutions, as in large-kernel attention, in the form that is fast on each platform.

B batch, H W grid, C channels, K kernel side. XLA is slow for a convolution with one channel per group, most of all if
it is dilated, and for its gradients. On a CPU the convolution is one multiply-add per tap of the kernel, which XLA
fuses into a single loop. Elsewhere it is XLA's grouped convolution. `jaxiqa/benchmarks/lka.py` compares their speed.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def depthwise(x_BHWC, kernel_KK1C, dilation: int = 1):
    """Convolves each channel with its own kernel: (B, H, W, C) -> (B, H, W, C).

    The kernel's side is odd and the map is padded with zeros to keep its size. On a CPU products are summed in fp32,
    whatever the type; the result has the type of `x_BHWC`. Only reverse-mode gradients are defined (no jvp). The
    platform is that of the lowering, so a program that is compiled on a CPU for a TPU has the TPU's form.
    """
    return _depthwise(x_BHWC, kernel_KK1C, dilation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise(x_BHWC, kernel_KK1C, dilation):
    return _by_platform(shifted, grouped, dilation)(x_BHWC, kernel_KK1C)


def _forward(x_BHWC, kernel_KK1C, dilation):
    return _depthwise(x_BHWC, kernel_KK1C, dilation), (x_BHWC, kernel_KK1C)


def _backward(dilation, kept, g_BHWC):
    return _by_platform(shifted_gradients, grouped_gradients, dilation)(*kept, g_BHWC)


_depthwise.defvjp(_forward, _backward)


def _by_platform(cpu, default, dilation):
    cpu, default = (functools.partial(f, dilation=dilation) for f in (cpu, default))
    return functools.partial(jax.lax.platform_dependent, cpu=cpu, default=default)


def grouped(x_BHWC, kernel_KK1C, dilation: int):
    """The definition: XLA's convolution with one group per channel."""
    pad = kernel_KK1C.shape[0] // 2 * dilation
    return jax.lax.conv_general_dilated(
        x_BHWC,
        kernel_KK1C,
        (1, 1),
        ((pad, pad),) * 2,
        rhs_dilation=(dilation,) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x_BHWC.shape[-1],
    )


def grouped_gradients(x_BHWC, kernel_KK1C, g_BHWC, dilation):
    return jax.vjp(functools.partial(grouped, dilation=dilation), x_BHWC, kernel_KK1C)[1](g_BHWC)


@functools.partial(jax.jit, static_argnames="dilation")  # traced once for all layers of a shape
def shifted(x_BHWC, kernel_KK1C, dilation: int):
    """The same convolution as a sum of shifted maps, each times its tap of the kernel."""
    _, H, W, C = x_BHWC.shape
    padded, taps = _pad(x_BHWC, kernel_KK1C.shape[0], dilation)
    total = 0.0
    for i, j, top, left in taps:
        tap = padded[:, top : top + H, left : left + W].astype(jnp.float32)
        total += tap * kernel_KK1C[i, j].astype(jnp.float32).reshape(1, 1, 1, C)
    return total.astype(x_BHWC.dtype)


@functools.partial(jax.jit, static_argnames="dilation")
def shifted_gradients(x_BHWC, kernel_KK1C, g_BHWC, dilation):
    """Returns the gradients of the input and the kernel.

    The input's gradient is a convolution with the mirrored kernel. The kernel's gradient is a sum over images and
    positions for each tap. A loop over the taps keeps one product in memory at a time. Each sum is a product with a
    vector of ones, which is faster on a CPU than XLA's reduction over leading axes.
    """
    K, C = kernel_KK1C.shape[0], x_BHWC.shape[-1]
    padded, taps = _pad(x_BHWC, K, dilation)
    g32 = g_BHWC.astype(jnp.float32)
    ones = jnp.ones(g_BHWC.size // C, jnp.float32)

    def add_up(_, corner):
        shifted_BHWC = jax.lax.dynamic_slice(padded, (0, *corner, 0), g_BHWC.shape)
        return None, ones @ (shifted_BHWC.astype(jnp.float32) * g32).reshape(-1, C)

    rows, columns, *corners = np.array(taps).T
    _, sums = jax.lax.scan(add_up, None, tuple(map(jnp.asarray, corners)))
    kernel = jnp.zeros((K, K, 1, C)).at[rows, columns, 0].set(sums).astype(kernel_KK1C.dtype)
    return shifted(g_BHWC, kernel_KK1C[::-1, ::-1], dilation), kernel


def _pad(x_BHWC, K, dilation):
    """Returns the map padded with zeros, and [(row, column in the kernel, top, left of the window)] of the taps.

    Taps that would only see zeros, because the map is smaller than their distance from the centre, are left out.
    """
    rows, columns = ([k for k in range(K) if abs(k - K // 2) * dilation < side] for side in x_BHWC.shape[1:3])
    margins = [(K // 2 - used[0]) * dilation for used in (rows, columns)]
    padded = jnp.pad(x_BHWC, ((0, 0), *((m, m) for m in margins), (0, 0)))
    taps = [(i, j, (i - rows[0]) * dilation, (j - columns[0]) * dilation) for i in rows for j in columns]
    return padded, taps
