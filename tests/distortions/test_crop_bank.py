"""The bank for crops: its rows, its own type, and counts that scale with the crop's area."""

import jax
import numpy as np
import pytest

from jaxiqa.distortions import CONTRASTIVE, DISTORTIONS, distort, distort_batch, draw
from jaxiqa.distortions.crop_bank import _share

CROP = np.random.default_rng(0).random((96, 96, 3), np.float32)


def test_rows():
    names = [row.name for row in CONTRASTIVE]
    missing = {"colour_quantisation", "denoise"}
    assert len(names) == 24 and set(names) == {row.name for row in DISTORTIONS} - missing | {"contrast_nonlinear"}
    kadid = {row.name: row for row in DISTORTIONS}
    levels = {row.name: row.levels for row in CONTRASTIVE}
    assert {name for name in names[:-1] if levels[name] != kadid[name].levels} == {
        "jpeg2000",
        "mean_shift",
        "contrast_change",
    }
    assert levels["jpeg2000"][4] == 170
    assert levels["mean_shift"] == (0, 0.08, -0.08, 0.15, -0.15)
    assert levels["contrast_change"] == (0, 0.15, -0.4, 0.3, -0.6)
    assert all(row.id == kadid[row.name].id for row in CONTRASTIVE[:-1])


@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
def test_contrast_nonlinear(level):
    slope = (0.4, 0.3, 0.2, 0.1, 0.05)[level - 1]
    result = distort(CROP, "contrast_nonlinear", level, None, stretch=False, bank=CONTRASTIVE)
    np.testing.assert_allclose(result, (0.5 - slope) + 2 * slope * CROP, atol=1e-6)


def test_level_1_of_mean_shift_is_the_image():
    result = distort(CROP, "mean_shift", 1, None, stretch=False, bank=CONTRASTIVE)
    np.testing.assert_allclose(result, CROP, atol=1e-6)


@pytest.mark.parametrize("count", [2, 4, 6, 8, 10, 20, 100])
def test_counts_follow_the_area(count):
    keys = jax.random.split(jax.random.key(1), 2000)
    crop = np.zeros((224, 224, 3), np.float32)
    share = np.asarray(jax.vmap(lambda key: _share(crop, np.float32(count), key))(keys))
    expected = count * 224**2 / (384 * 512)
    assert set(share) <= {max(np.floor(expected), 1), np.floor(expected) + 1}
    assert abs(share.mean() - max(expected, 1)) < 0.05


def test_few_blocks_in_a_crop():
    keys = jax.random.split(jax.random.key(2), 30)
    crop = np.full((224, 224, 3), 0.5, np.float32)
    draw_one = lambda key: distort(crop, "colour_block", 5, key, stretch=False, bank=CONTRASTIVE)  # noqa: E731
    share = np.mean(np.asarray(jax.vmap(draw_one)(keys)) != 0.5, axis=(1, 2, 3)) * 224**2 / 32**2
    assert 2.1 < share.mean() < 2.7 and share.max() <= 3


def test_mixed_batch():
    images = np.random.default_rng(1).random((24, 64, 64, 3), np.float32)
    keys = jax.random.split(jax.random.key(0), 24)
    types, levels = draw(0, 0, 24, CONTRASTIVE)
    types[0] = 26
    result = np.asarray(distort_batch(images, types, levels, keys, stretch=False, bank=CONTRASTIVE))
    assert np.isfinite(result).all() and result.min() >= 0 and result.max() <= 1
    alone = distort(images[0], 26, int(levels[0]), None, stretch=False, bank=CONTRASTIVE)
    np.testing.assert_allclose(result[0], alone, atol=1e-6)
