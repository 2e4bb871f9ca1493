"""The contrastive loss against its formula, and on sharded batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxiqa.training import sharding
from jaxiqa.training.losses import supervised_contrastive


def by_the_formula(z, label, t):
    """E9, image by image, in float64."""
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    terms = []
    for n in range(len(z)):
        others = [m for m in range(len(z)) if m != n]
        positives = [p for p in others if label[p] == label[n]]
        if positives:
            normaliser = np.log(sum(np.exp(z[n] @ z[m] / t) for m in others))
            terms.append(normaliser - np.mean([z[n] @ z[p] / t for p in positives]))
    return np.mean(terms) if terms else 0.0


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2, 2, 2, 3], [0, 0, 0, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5, 6, 7]])
def test_formula(labels):
    z = np.random.default_rng(0).standard_normal((8, 5))
    ours = supervised_contrastive(jnp.asarray(z, jnp.float32), jnp.asarray(labels), 0.1)
    assert float(ours) == pytest.approx(by_the_formula(z, labels, 0.1), rel=1e-5, abs=1e-7)


def test_what_lowers_it():
    """Images of one label lie together and away from the others. The length of z does not matter."""
    label = jnp.array([0, 0, 1, 1])
    together = jnp.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    mixed = together[jnp.array([0, 2, 1, 3])]
    low, high = (supervised_contrastive(z, label, 0.1) for z in (together, mixed))
    assert low < 1e-3 < 5 < high
    assert supervised_contrastive(7 * mixed, label, 0.1) == pytest.approx(float(high), rel=1e-6)


def test_gradient_is_finite_at_zero():
    gradient = jax.grad(lambda z: supervised_contrastive(z, jnp.array([0, 0, 1, 2]), 0.1))(jnp.zeros((4, 3)))
    assert np.isfinite(gradient).all()


def test_the_whole_batch_is_compared_on_any_number_of_devices():
    z = np.random.default_rng(1).standard_normal((16, 8)).astype(np.float32)
    label = np.arange(16) % 5
    alone = supervised_contrastive(jnp.asarray(z), jnp.asarray(label), 0.1)
    put = sharding.batch_sharding(sharding.make_mesh())
    spread = jax.jit(supervised_contrastive, static_argnums=2)(jax.device_put(z, put), jax.device_put(label, put), 0.1)
    np.testing.assert_allclose(spread, alone, rtol=1e-6)
