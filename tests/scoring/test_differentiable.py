"""Metric.apply: the score of a call as a pure function, and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refused import refused
from small_checkpoint import write_source

import jaxiqa
from jaxiqa.datasets.records import Scale
from jaxiqa.errors import ConfigError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A falling logistic curve around a model with crops at two scales, so that all of the way to a score is used."""
    curve = {"kind": "logistic", "parameters": [0.9, 0.1, 0.0, -0.1]}
    folder = tmp_path_factory.mktemp("apply") / "arniqa"
    return write_source(folder, "arniqa", scale=Scale(0.0, 1.0), curve=curve)


@pytest.fixture(scope="module")
def metric(checkpoint):
    return jaxiqa.create_metric(checkpoint=checkpoint)


@pytest.fixture(scope="module")
def jitted(metric):
    return jax.jit(metric.apply)


def images(height=90, width=120, count=2):
    y, x = np.mgrid[:height, :width] / 20
    base = 128 + 60 * np.sin(x + np.arange(count).reshape(-1, 1, 1)) * np.cos(1.3 * y)
    noise = 25 * np.random.default_rng(0).standard_normal((count, height, width, 3))
    noise *= 1 + np.arange(count).reshape(-1, 1, 1, 1)
    return np.clip(base[..., None] + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("crops", ["auto:4", "five"])
def test_apply_is_the_score_of_a_call(metric, checkpoint, jitted, crops):
    """The copies at half the size are rounded to 8 bits in a call."""
    if crops != "auto:4":
        metric = jaxiqa.create_metric(checkpoint=checkpoint, crops=crops)
        jitted = jax.jit(metric.apply)
    x = images()
    expected = metric(list(x))
    assert abs(expected[0] - expected[1]) > 0.04
    np.testing.assert_allclose(jitted(x), expected, atol=0.02)
    np.testing.assert_allclose(jitted(jnp.asarray(x, jnp.float32) / 255), jitted(x), atol=1e-3)


def test_small_images_are_enlarged(metric):
    x = images(40, 50)
    np.testing.assert_allclose(jax.jit(metric.apply)(x), metric(list(x)), atol=0.3)


def test_gradients_are_those_of_finite_differences(metric, jitted):
    x = jnp.asarray(images(), jnp.float32) / 255
    gradient = jax.jit(jax.grad(lambda x: metric.apply(x)[1]))(x)
    assert np.abs(gradient[1]).max() > 0 and not np.any(gradient[0])  # images do not mix
    size = float(jnp.linalg.norm(gradient))
    for direction in (gradient / size, jax.random.normal(jax.random.key(0), x.shape) / np.sqrt(x[0].size)):
        step = 0.05
        measured = (jitted(x + step * direction)[1] - jitted(x - step * direction)[1]) / (2 * step)
        assert float(measured) == pytest.approx(float(jnp.vdot(gradient, direction)), rel=0.05, abs=0.01 * size)


def test_it_works_under_vmap_and_in_a_training_step(metric, jitted):
    x = jnp.asarray(images(), jnp.float32) / 255

    @jax.jit
    def step(gain):
        scores = jax.vmap(lambda one: metric.apply(one[None])[0])
        return jax.value_and_grad(lambda gain: scores(jnp.clip(gain * x, 0, 1)).mean())(gain)

    score, gradient = step(jnp.float32(1.0))
    assert score == pytest.approx(float(jitted(x).mean()), abs=1e-3) and np.isfinite(gradient) and gradient != 0


@pytest.mark.parametrize("wrong", [np.zeros((90, 90, 3), np.uint8), np.zeros((1, 90, 90, 3), np.int32)])
def test_other_arrays_are_refused(metric, wrong):
    with refused(ConfigError, "format", "images"):
        metric.apply(wrong)


def test_random_crops_are_refused(checkpoint):
    with refused(ConfigError, "conflict", "crops", "auto:25"):
        jaxiqa.create_metric(checkpoint=checkpoint, crops="random:4").apply(images())
