"""Attention fusion and the other forms of fusion against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_variables import random_variables

from jaxiqa.models.blocks.attention_fusion import Fusion


def channel_attention(x, p, stats):
    """1x1, BatchNorm, ReLU, 1x1, BatchNorm; with running statistics, or those of x for None."""
    for k in (1, 2):
        x = x @ np.float64(p[f"conv{k}"]["kernel"][0, 0]) + p[f"conv{k}"]["bias"].reshape(1, 1, 1, -1)
        mean, var = (
            (x.mean((0, 1, 2)), x.var((0, 1, 2)))
            if stats is None
            else (stats[f"bn{k}"]["mean"], stats[f"bn{k}"]["var"])
        )
        gain = p[f"bn{k}"]["scale"] / np.sqrt(var + 1e-5)
        x = (x - mean.reshape(1, 1, 1, -1)) * gain.reshape(1, 1, 1, -1) + p[f"bn{k}"]["bias"].reshape(1, 1, 1, -1)
        x = np.maximum(x, 0) if k == 1 else x
    return x


def pair(C=8):
    rng = np.random.default_rng(1)
    return [rng.standard_normal((3, 4, 5, C)).astype(np.float32) for _ in range(2)]


@pytest.mark.parametrize("factor", [1.0, 2.0])
@pytest.mark.parametrize("train", [False, True])
def test_attention_fusion(train, factor):
    """The definition in float64, with running and with batch statistics."""
    x, y = pair()
    layer = Fusion("aff", factor)
    variables = random_variables(layer, x, y, train=False)
    p, stats = variables["params"], variables["batch_stats"]
    u = np.float64(x) + y
    local = channel_attention(u, p["local_att"], None if train else stats["local_att"])
    overall = channel_attention(u.mean((1, 2), keepdims=True), p["global_att"], None if train else stats["global_att"])
    mask = 1 / (1 + np.exp(-(local + overall)))
    with jax.default_matmul_precision("highest"):
        ours, _ = layer.apply(variables, x, y, train, mutable=["batch_stats"])
    np.testing.assert_allclose(ours, factor * (mask * x + (1 - mask) * y), atol=1e-5)
    C = x.shape[-1]
    assert sum(x.size for x in jax.tree.leaves(p)) == C * C + 7.5 * C


def test_other_forms():
    x, y = pair()
    C = x.shape[-1]
    np.testing.assert_array_equal(Fusion("add").apply({}, x, y, False), x + y)
    with jax.default_matmul_precision("highest"):
        layer = Fusion("concat")
        variables = random_variables(layer, x, y, train=False)
        p = variables["params"]["conv"]
        expected = x @ p["kernel"][0, 0, :C] + y @ p["kernel"][0, 0, C:] + p["bias"].reshape(1, 1, 1, C)
        np.testing.assert_allclose(layer.apply(variables, x, y, False), expected, atol=1e-5)
        layer = Fusion("spatial_gate")
        variables = random_variables(layer, x, y, train=False)
        kernel = np.float64(variables["params"]["gate"]["kernel"])
        summary = np.pad(np.stack([y.mean(-1), y.max(-1)], -1), ((0, 0), (3, 3), (3, 3), (0, 0)))
        gate = np.zeros((*x.shape[:3], 1))
        for i in range(x.shape[1]):
            for j in range(x.shape[2]):
                gate[:, i, j] = np.einsum("bklc,klcf->bf", summary[:, i : i + 7, j : j + 7], kernel)
        np.testing.assert_allclose(layer.apply(variables, x, y, False), x + x / (1 + np.exp(-gate)), atol=1e-5)
    with pytest.raises(ValueError, match="fusion 'sum' is not one of aff, spatial_gate, concat, add"):
        Fusion("sum").init(jax.random.key(0), x, y, False)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("form", "guest"), [("aff", 0.0), ("add", 0.0), ("concat", 1.0)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_fusion_that_starts_as_the_identity(form, guest, train, dtype):
    """The output equals the main map bit for bit, also with statistics of the batch."""
    x, y = (jnp.asarray(a, dtype) for a in pair())
    layer = Fusion(form, 2.0, True, dtype=dtype)
    variables = layer.init(jax.random.key(0), x, guest * y, False)
    z, _ = layer.apply(variables, x, guest * y, train, mutable=["batch_stats"])
    assert z.dtype == dtype
    np.testing.assert_array_equal(z, x)
