"""The same tests for all distortions of the table."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxiqa.distortions import CONTRASTIVE, DISTORTIONS, distort, distort_exact, get_distortion
from jaxiqa.distortions.single import distort_row

LEVELS = (1, 2, 3, 4, 5)
HEIGHT, WIDTH = 67, 93

every_type = pytest.mark.parametrize("row", DISTORTIONS, ids=lambda row: row.name)

# The last bit of a value decides if it lies between two steps of a quantiser.
DECIDING = ("colour_quantisation", "jpeg2000", "jpeg", "quantisation")


def pictures():
    """uint8 (7, H, W, 3): black, white, grey, one colour (all constant), noise, low contrast, the noise again."""
    rng = np.random.default_rng(0)
    flat = [np.broadcast_to(np.uint8(c), (HEIGHT, WIDTH, 3)) for c in (0, 255, 128, (30, 180, 90))]
    noise = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return np.stack([*flat, noise, 120 + noise // 32, noise])


NOISE, NOISE_AGAIN = 4, 6
KEYS = jax.random.split(jax.random.key(0), (7, 5))


@functools.cache
def render(row):
    """All images at all levels, each with its own key, in one call: float32 (stretch off and on, 7, 5, H, W, 3)."""

    def one(image, level, key):
        return jnp.stack([distort(image, row.name, level, key, stretch=stretch) for stretch in (False, True)])

    images = np.repeat(pictures().astype(np.float32) / 255, 5, axis=0)
    result = jax.jit(jax.vmap(one))(images, jnp.tile(jnp.asarray(LEVELS), 7), KEYS.reshape(-1))
    return np.asarray(result).reshape(7, 5, 2, *result.shape[2:]).transpose(2, 0, 1, 3, 4, 5)


@every_type
def test_any_image_keeps_shape_and_range(row):
    result = render(row)
    assert result.shape == (2, 7, 5, HEIGHT, WIDTH, 3)
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    assert result.min() >= 0 and result.max() <= 1
    if not row.random:  # a stretch must not make an image out of rounding errors
        assert np.ptp(result[:, :3], axis=(3, 4, 5)).max() < 1e-4


@every_type
def test_vmap_draws_differently_and_agrees_with_single_calls(row):
    strongest = render(row)[1, :, -1]
    assert row.random == (not np.array_equal(strongest[NOISE], strongest[NOISE_AGAIN]))
    alone = distort(pictures()[NOISE].astype(np.float32) / 255, row.name, 5, KEYS[NOISE, -1])
    if row.name in DECIDING:
        assert np.mean(np.abs(strongest[NOISE] - alone) > 2e-5) < 1e-3
    else:
        np.testing.assert_allclose(strongest[NOISE], alone, atol=2e-5)


@pytest.mark.slow
@every_type
def test_any_size(row):
    size = (64, int(np.random.default_rng(row.id).integers(64, 150)))
    image = np.random.default_rng(1).random((*size, 3), np.float32)
    result = np.asarray(distort(image, row.name, 4, KEYS[0, 0]))
    assert result.shape == image.shape and np.isfinite(result).all() and result.min() >= 0 and result.max() <= 1
    np.testing.assert_array_equal(result, distort(image, row.name, 4, KEYS[0, 0]))


@pytest.mark.parametrize(
    ("type", "level"), [("gaussian_blur", 1), ("motion_blur", 1), ("colour_saturation_lab", 1), ("mean_shift", 3)]
)
def test_levels_that_change_nothing(type, level):
    image = pictures()[NOISE].astype(np.float32) / 255
    np.testing.assert_allclose(render(get_distortion(type))[0, NOISE, level - 1], image, atol=1e-4)


@every_type
def test_exact_form(row):
    image = pictures()[4]
    first = distort_exact(image, row.id, 3, 7)
    assert first.shape == image.shape and first.dtype == np.uint8
    np.testing.assert_array_equal(first, distort_exact(image, row.name, 3, jax.random.key(7)))
    assert row.random == (not np.array_equal(first, distort_exact(image, row.name, 3, 8)))
    for flat in pictures()[:4]:
        assert distort_exact(flat, row.name, 5, 0).shape == flat.shape


@every_type
@pytest.mark.parametrize("level", [0, 6, -1])
def test_level_out_of_range_is_refused(row, level):
    with pytest.raises(ValueError, match="level must be"):
        distort_exact(pictures()[4], row.name, level, 0)
    with pytest.raises(ValueError, match="level must be"):
        distort(jnp.zeros((64, 64, 3)), row.name, level, jax.random.key(0))


@every_type
def test_one_compile_serves_all_levels(row):
    image = pictures()[4].astype(np.float32) / 255
    key = jax.random.key(0)
    before = distort_row._cache_size()
    results = [np.asarray(distort(image, row.name, level, key)) for level in LEVELS]
    assert distort_row._cache_size() - before <= 1
    np.testing.assert_array_equal(results[1], distort(image, row.name, jnp.int32(2), key))
    assert all(not np.array_equal(a, b) for a, b in itertools.pairwise(results))


def test_table_is_in_kadid_order_and_resolves_names_and_numbers():
    assert [row.id for row in DISTORTIONS] == list(range(1, 26))
    assert len({row.name for row in DISTORTIONS}) == len(DISTORTIONS)
    for row in DISTORTIONS:
        assert len(row.levels) == 5
        assert get_distortion(row.name) is get_distortion(row.id) is get_distortion(np.int64(row.id)) is row


@pytest.mark.parametrize(
    ("type", "message"),
    [
        ("gausian_blur", 'did you mean "gaussian_blur"'),
        ("color_diffusion", 'did you mean "colour_diffusion"'),
        ("zzz", "choose one of: gaussian_blur"),
        (26, "unknown distortion number 26"),
        (0, "unknown distortion number 0"),
    ],
)
def test_unknown_type_is_refused(type, message):
    with pytest.raises(ValueError, match=message):
        distort_exact(pictures()[4], type, 1, 0)


def test_wrong_calls_are_refused():
    image = pictures()[4]
    image01 = image.astype(np.float32) / 255
    with pytest.raises(ValueError, match="floats"):
        distort(image, "darken", 1, None)
    with pytest.raises(ValueError, match="floats"):
        distort(image01[None], "darken", 1, None)
    with pytest.raises(ValueError, match="uint8"):
        distort_exact(image01, "darken", 1, None)
    with pytest.raises(ValueError, match="needs a key"):
        distort_exact(image, "white_noise", 1, None)
    with pytest.raises(ValueError, match="unknown distortion"):
        distort(image01, "contrast_nonlinear", 1, None)
    with pytest.raises(ValueError, match="unknown distortion"):
        distort(image01, "denoise", 1, None, bank=CONTRASTIVE)
