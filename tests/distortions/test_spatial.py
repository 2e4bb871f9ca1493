"""Distortions that move or hide pixels, and colour_shift: which pixels they move and how far."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxiqa.distortions import distort, get_distortion
from jaxiqa.distortions.families.spatial import BLOCK, PATCH, colour_block, jitter

LEVELS = (1, 2, 3, 4, 5)
RNG = np.random.default_rng(0)
NOISE = RNG.random((384, 512, 3), np.float32)
Y, X = np.mgrid[:96, :128].astype(np.float32)
KEYS = jax.random.split(jax.random.key(5), 40)


def at(type, level, image=NOISE, keys=KEYS):
    one = lambda key: distort(image, type, level, key, stretch=False)  # noqa: E731
    return np.asarray(jax.jit(jax.vmap(one))(keys))


@pytest.mark.parametrize("level", [1, 3, 5])
def test_jitter_moves_pixels_by_five_offsets(level):
    ramps = np.stack([Y / 128, X / 128, np.full_like(X, 0.5)], axis=-1)  # bicubic is exact on them
    moved = (at("jitter", level, ramps, KEYS[:4]) - ramps)[:, 16:-16, 16:-16] * 128
    deviation = get_distortion("jitter").levels[level - 1]
    rows, columns = moved[..., 0], moved[..., 1]
    # A pixel takes its value from five offsets on; later offsets land between pixels, and interpolation averages them.
    for part in (rows, columns):
        assert abs(part.mean()) < 0.02 * deviation + 0.005
        assert 0.6 * np.sqrt(5) * deviation < part.std() < 1.02 * np.sqrt(5) * deviation
    assert abs(np.mean(rows * columns)) < 0.03 * rows.var()
    assert np.abs(moved[..., 2]).max() < 1e-3


def test_jitter_of_nothing_is_nothing():
    np.testing.assert_allclose(jitter(NOISE, 0.0, KEYS[0]), NOISE, atol=1e-6)


@pytest.mark.parametrize("level", [1, 3, 5])
def test_patches_are_copied_nearby(level):
    count = get_distortion("non_eccentricity_patch").levels[level - 1]
    result = at("non_eccentricity_patch", level, keys=KEYS[:8])
    changed = (result != NOISE).any(axis=-1)
    assert not changed[:, : PATCH // 2].any() and not changed[:, :, : PATCH // 2].any()
    assert not changed[:, -PATCH // 2 :].any() and not changed[:, :, -PATCH // 2 :].any()
    # Of targets spread evenly over the inner area, some overlap.
    inner = (384 - 2 * PATCH) * (512 - 2 * PATCH)
    expected = inner * (1 - np.exp(-count * PATCH**2 / inner))
    assert abs(changed.sum(axis=(1, 2)).mean() / expected - 1) < 0.06
    # Every value comes from at most 8 pixels away in each axis (twice as far or more where patches were copied twice).
    found = np.zeros_like(changed[0])
    for dy in range(-8, 9):
        for dx in range(-8, 9):
            found |= (result[0] == np.roll(NOISE, (dy, dx), (0, 1))).all(axis=-1)
    assert found[changed[0]].mean() > (0.95 if level == 1 else 0.75)


@pytest.mark.parametrize("level", LEVELS)
def test_blocks_are_counted(level):
    count = int(get_distortion("colour_block").levels[level - 1])
    changed = (at("colour_block", level) != NOISE).any(axis=-1)
    area = changed.sum(axis=(1, 2)) / BLOCK**2
    assert area.max() <= count and area.max() > count - 1.5
    places = (384 - BLOCK + 1) * (512 - BLOCK + 1)
    assert area.mean() > count * (1 - count * BLOCK**2 * 4 / places)
    assert changed.any(axis=0).mean() > 0.1 * count / 2  # the places differ


def test_blocks_are_of_one_uniform_colour():
    blank = np.full((64, 96, 3), -1, np.float32)
    result = np.asarray(jax.vmap(lambda key: colour_block(blank, 1.0, key))(jax.random.split(KEYS[0], 200)))
    colours = []
    for image in result:
        inside = image[(image >= 0).all(axis=-1)]
        assert inside.shape == (BLOCK**2, 3) and (inside == inside[0]).all()
        colours.append(inside[0])
    assert abs(np.mean(colours) - 0.5) < 0.06 and abs(np.var(colours) - 1 / 12) < 0.015


@pytest.mark.parametrize("level", [1, 3, 5])
def test_colour_shift_shifts_green_by_its_distance(level):
    distance = get_distortion("colour_shift").levels[level - 1]
    result = at("colour_shift", level, NOISE[:96, :128], KEYS)
    np.testing.assert_array_equal(result[..., [0, 2]], np.broadcast_to(NOISE[:96, :128, [0, 2]], (40, 96, 128, 2)))
    green = NOISE[:96, :128, 1]
    shifts = set()
    for image in result[..., 1]:
        change = image - green
        scores = {
            (dy, dx): np.mean(change[16:, 16:] * np.roll(green, (dy, dx), (0, 1))[16:, 16:])
            for dy in range(13)
            for dx in range(13)
            if (dy, dx) != (0, 0)
        }
        shifts.add(max(scores, key=scores.get))
    lengths = [np.hypot(*shift) for shift in shifts]
    assert min(lengths) > distance - 0.75 and max(lengths) < distance + 0.75
    if level > 1:
        assert len(shifts) > 3 and np.ptp([dy for dy, _ in shifts]) > 0.7 * distance


def test_colour_shift_is_where_edges_are():
    image = np.tile(0.3 + 0.1 * np.sin(Y / 3), (3, 1, 1)).transpose(1, 2, 0)
    image[:, 64:] = 0.8  # an edge in the middle, and nothing to the right of it
    change = np.abs(np.asarray(distort(jnp.asarray(image), "colour_shift", 5, KEYS[1], stretch=False)) - image)
    assert change[:, 55:75].max() > 0.1 and change[:, 100:].max() < 1e-6
