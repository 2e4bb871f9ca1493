"""Distortions against their definitions: statistics of the random types, closed forms of the others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxiqa.distortions import distort, get_distortion
from jaxiqa.distortions.families.blur import motion_kernel
from jaxiqa.distortions.families.colour import lab_to_srgb, rgb_to_ycbcr, srgb_to_lab, ycbcr_to_rgb

LEVELS = (1, 2, 3, 4, 5)
GREY = np.full((256, 256, 3), 0.5, np.float32)


def draws(type):
    """Returns a grey image distorted at each level, without stretch: (5, H, W, 3)."""
    keys = jax.random.split(jax.random.key(3), 5)
    return np.stack([distort(GREY, type, level, keys[level - 1], stretch=False) for level in LEVELS])


def assert_mean_and_variance(noise, variance):
    standard_error = np.sqrt(variance / noise.size)
    assert abs(noise.mean()) < 5 * standard_error
    np.testing.assert_allclose(noise.var(), variance, rtol=0.02)


def test_white_noise_is_gaussian():
    for variance, noise in zip(
        get_distortion("white_noise").levels, draws("white_noise").astype(np.float64) - 0.5, strict=True
    ):
        assert_mean_and_variance(noise, variance)
        kurtosis = np.mean((noise / noise.std()) ** 4)
        np.testing.assert_allclose(kurtosis, 3, atol=0.1)
        neighbours = np.mean(noise[..., 1:, :] * noise[..., :-1, :]) / variance
        channels = np.mean(noise[..., 1:] * noise[..., :-1]) / variance
        assert abs(neighbours) < 0.02 and abs(channels) < 0.02


def test_white_noise_ycbcr_is_in_all_three_planes():
    grey = np.asarray(rgb_to_ycbcr(GREY), np.float64)
    for variance, image in zip(get_distortion(12).levels, draws("white_noise_ycbcr"), strict=True):
        planes = np.asarray(rgb_to_ycbcr(image), np.float64) - grey
        for plane in range(3):
            assert_mean_and_variance(planes[..., plane], variance)


def test_impulse_noise_density():
    for density, image in zip(get_distortion("impulse_noise").levels, draws("impulse_noise"), strict=True):
        error = 5 * np.sqrt(density / image.size)
        assert abs(np.mean(image == 0) - density / 2) < error
        assert abs(np.mean(image == 1) - density / 2) < error
        assert np.isin(image, (0, 0.5, 1)).all()


def test_multiplicative_noise_is_uniform():
    levels = get_distortion("multiplicative_noise").levels
    for variance, image in zip(levels, draws("multiplicative_noise"), strict=True):
        factor = image.astype(np.float64) / 0.5 - 1
        assert_mean_and_variance(factor, variance)
        np.testing.assert_allclose(np.abs(factor).max(), np.sqrt(3 * variance), rtol=1e-3)
        np.testing.assert_allclose(np.mean((factor / factor.std()) ** 4), 1.8, atol=0.02)


def test_motion_kernel():
    expected = np.zeros((11, 11))
    expected[5] = [0.05, *[0.1] * 9, 0.05]
    np.testing.assert_allclose(motion_kernel(10.0, 0), expected, atol=1e-6)
    np.testing.assert_allclose(motion_kernel(10.0, 180), expected, atol=1e-6)
    np.testing.assert_allclose(motion_kernel(10.0, 90), expected.T, atol=1e-6)
    rising = np.asarray(motion_kernel(6.0, 45))
    np.testing.assert_allclose(rising, rising.T[::-1, ::-1], atol=1e-6)
    assert rising[4, 6] > 0.1 > rising[6, 6]  # counter-clockwise: up and to the right
    identity = np.asarray(motion_kernel(1.0, 17))
    assert identity[5, 5] == 1 and identity.sum() == 1


def test_stretch_spans_the_range():
    image = 0.4 + 0.1 * np.random.default_rng(0).random((64, 64, 3), np.float32)
    result = np.asarray(distort(image, "darken", 5, None))
    assert result.min() == 0 and result.max() == 1


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [((1, 0, 0), (53.24, 80.09, 67.20)), ((0, 0, 1), (32.30, 79.19, -107.86)), ((1, 1, 1), (100, 0, 0))],
)
def test_lab_of_known_colours(rgb, lab):
    np.testing.assert_allclose(srgb_to_lab(jnp.asarray(rgb, jnp.float32)), lab, atol=0.01)


def test_colour_spaces_have_inverses():
    rgb = np.random.default_rng(0).random((32, 32, 3), np.float32)
    np.testing.assert_allclose(lab_to_srgb(srgb_to_lab(rgb)), rgb, atol=3e-5)
    np.testing.assert_allclose(ycbcr_to_rgb(rgb_to_ycbcr(rgb)), rgb, atol=1e-6)
    np.testing.assert_allclose(255 * np.asarray(rgb_to_ycbcr(jnp.ones(3))), (235, 128, 128), atol=1e-3)
