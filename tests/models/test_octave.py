"""Octave convolutions against their definition."""

import jax
import numpy as np
import pytest
from random_variables import random_variables

from jaxiqa.models.blocks.octave import OctaveConv


def conv3x3(x, kernel):
    """Zero-padded 3x3 convolution, one position at a time."""
    B, H, W, _ = x.shape
    padded, y = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), np.zeros((B, H, W, kernel.shape[-1]))
    for i in range(H):
        for j in range(W):
            y[:, i, j] = np.einsum("bklc,klcf->bf", padded[:, i : i + 3, j : j + 3], kernel)
    return y


def pool(x):
    h, w = x.shape[1] // 2, x.shape[2] // 2
    return np.array(
        [[x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((1, 2)) for j in range(w)] for i in range(h)]
    ).transpose(2, 0, 1, 3)


def upsample(x, H, W):
    rows, columns = (np.minimum(np.arange(n) // 2, n // 2 - 1) for n in (H, W))
    return x[:, rows][:, :, columns]


@pytest.mark.parametrize("sides", [(8, 8), (7, 10), (5, 7)])
@pytest.mark.parametrize("stride", [1, 2])
def test_octave_convolution(stride, sides):
    """Equal to the definition at each position: plain and strided, even and odd grids, with and without a low part."""
    H, W = sides
    rng = np.random.default_rng(0)
    high = rng.standard_normal((2, H, W, 3)).astype(np.float32)
    low = rng.standard_normal((2, H // 2, W // 2, 2)).astype(np.float32)
    layer = OctaveConv(high=5, low=4, stride=stride)
    variables = random_variables(layer, high, low)
    k = {name: np.float64(p["kernel"]) for name, p in variables["params"].items()}
    assert {name: x.shape for name, x in k.items()} == {
        "h2h": (3, 3, 3, 5), "h2l": (3, 3, 3, 4), "l2h": (3, 3, 2, 5), "l2l": (3, 3, 2, 4)
    }  # fmt: skip
    if stride == 1:
        y_high = conv3x3(high, k["h2h"]) + upsample(conv3x3(low, k["l2h"]), H, W)
        y_low = conv3x3(low, k["l2l"]) + conv3x3(pool(high), k["h2l"])
    else:
        y_high = conv3x3(pool(high), k["h2h"]) + conv3x3(low, k["l2h"])
        y_low = conv3x3(pool(low), k["l2l"]) + conv3x3(pool(pool(high)), k["h2l"])
    with jax.default_matmul_precision("highest"):
        ours = layer.apply(variables, high, low)
        np.testing.assert_allclose(ours[0], y_high, atol=2e-5)
        np.testing.assert_allclose(ours[1], y_low, atol=2e-5)
        without = {"params": {n: p for n, p in variables["params"].items() if n in ("h2h", "l2h")}}
        last = OctaveConv(high=5, low=0, stride=stride).apply(without, high, low)
        np.testing.assert_array_equal(last[0], ours[0])
        assert last[1] is None
        first = {"params": {n: p for n, p in variables["params"].items() if n in ("h2h", "h2l")}}
        pooled = pool(high) if stride == 2 else high
        for got, expected in zip(
            layer.apply(first, high), (conv3x3(pooled, k["h2h"]), conv3x3(pool(pooled), k["h2l"])), strict=True
        ):
            np.testing.assert_allclose(got, expected, atol=2e-5)
