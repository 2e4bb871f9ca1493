"""Crops at several scales: smaller copies of an image, and the same place in them."""

import numpy as np
import pytest

from jaxiqa.inputs.scales import cut, same_place, shrink
from jaxiqa.inputs.transforms import Augment, augmented


def test_shrink_is_bilinear_and_antialiased():
    """Half the size: each pixel is the weighted mean of 4 x 4 pixels, by (1, 3, 3, 1) / 8 along each side."""
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    half, weights = shrink(image, 2), np.array([1, 3, 3, 1]) / 8
    assert half.shape == (10, 15, 3) and shrink(image, 1) is image
    for row, column in ((1, 1), (4, 7), (8, 13)):
        window = image[2 * row - 1 : 2 * row + 3, 2 * column - 1 : 2 * column + 3]
        np.testing.assert_allclose(half[row, column], np.einsum("i,j,ijc", weights, weights, window), atol=1)


@pytest.mark.parametrize(("size", "expected"), [((1, 1), (1, 1)), ((1, 9), (1, 4)), ((301, 450), (150, 225))])
def test_sides_are_divided_by_an_integer(size, expected):
    assert shrink(np.zeros((*size, 3), np.uint8), 2).shape == (*expected, 3)


def test_the_same_place_is_at_the_same_edges():
    corners = [(0, 0), (36, 0), (0, 76), (36, 76), (18, 38)]
    assert same_place(corners, (100, 140), (50, 70), 64).tolist() == [[0, 0], [-14, 0], [0, 6], [-14, 6], [-7, 3]]
    assert same_place(corners, (100, 140), (100, 140), 64).tolist() == [list(corner) for corner in corners]
    assert same_place((0, 0), (64, 64), (32, 32), 64).tolist() == [0, 0]


@pytest.mark.parametrize("crop", ["random", "centre"])
def test_training_crops_at_two_scales(crop):
    """The first is the crop without scales; the second shows the same place of the mirrored image at half the size."""
    image = np.random.default_rng(0).integers(1, 256, (40, 60, 3), dtype=np.uint8)
    for seed in range(8):
        one = augmented(image, 24, np.random.default_rng(seed), Augment(crop=crop))
        pair = augmented(image, 24, np.random.default_rng(seed), Augment(crop=crop), (1, 2))
        assert pair.shape == (2, 24, 24, 3) and np.array_equal(pair[0], one)
        halves = [shrink(image[::i, ::j], 2) for i in (1, -1) for j in (1, -1)]
        places = [(top, left) for top in range(-4, 1) for left in range(7)]
        assert any(np.array_equal(pair[1], cut(half, *place, 24)) for half in halves for place in places)
