"""Layers give the same numbers as those of flax.linen."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxiqa.models.blocks.layers import BatchNorm, Conv, normal_fan_out, uniform_fan_in
from jaxiqa.models.resnet import max_pool_3x3_s2


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(1, 1, 0), (1, 2, 0), (4, 4, 0), (2, 2, 0), (3, 1, 1), (7, 2, 3)]
)
def test_conv(kernel, stride, padding):
    x = np.random.default_rng(0).standard_normal((2, 12, 16, 3)).astype(np.float32)
    ours = Conv(5, kernel, stride, padding)
    variables = ours.init(jax.random.key(0), x)
    theirs = nn.Conv(5, (kernel, kernel), stride, padding=padding)
    with jax.default_matmul_precision("highest"):
        np.testing.assert_allclose(ours.apply(variables, x), theirs.apply(variables, x), atol=1e-5)
    limit = 1 / np.sqrt(kernel * kernel * 3)
    assert 0.8 * limit < np.abs(variables["params"]["kernel"]).max() <= limit


def test_initialisers():
    """The numbers are those of jax.random for the whole shape; the normal one is He initialisation by fan-out."""
    key, shape = jax.random.key(3), (3, 3, 5, 8)
    expected = jax.random.uniform(key, shape, minval=-0.25, maxval=0.25)
    np.testing.assert_array_equal(uniform_fan_in(16)(key, shape), expected)
    he = nn.initializers.variance_scaling(2.0, "fan_out", "normal")(key, shape)
    np.testing.assert_allclose(normal_fan_out()(key, shape), he, rtol=1e-6)
    depthwise = jax.random.normal(key, (5, 5, 1, 8)) * np.sqrt(2) / 5  # fan-out of a group: 5 x 5
    np.testing.assert_allclose(normal_fan_out(groups=8)(key, (5, 5, 1, 8)), depthwise, rtol=1e-6)


def test_batch_norm_keeps_the_unbiased_variance():
    x = np.random.default_rng(0).normal(3.0, 2.0, (4, 2, 2, 3)).astype(np.float32)
    ours = BatchNorm()
    variables = ours.init(jax.random.key(0), x, True)
    y, new = ours.apply(variables, x, True, mutable=["batch_stats"])
    flat = x.reshape(-1, 3)
    np.testing.assert_allclose(new["batch_stats"]["mean"], 0.1 * flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(new["batch_stats"]["var"], 0.9 + 0.1 * flat.var(0, ddof=1), rtol=1e-5)
    expected = (x - flat.mean(0).reshape(1, 1, 1, 3)) / np.sqrt(flat.var(0) + 1e-5).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    still = ours.apply(variables, x, False)
    np.testing.assert_allclose(still, x / np.sqrt(1 + 1e-5), rtol=1e-5)


def test_max_pool_and_its_gradient():
    x = np.random.default_rng(0).standard_normal((2, 8, 10, 3)).astype(np.float32)

    def reference(x):
        return nn.max_pool(nn.relu(x), (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))

    def ours(x):
        return max_pool_3x3_s2(nn.relu(x))

    np.testing.assert_array_equal(ours(x), reference(x))
    gradients = [jax.grad(lambda x, f=f: jnp.sum(f(x) ** 2))(x) for f in (ours, reference)]
    np.testing.assert_allclose(*gradients, atol=1e-6)
