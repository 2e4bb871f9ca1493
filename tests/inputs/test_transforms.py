"""Flips, crops, sizes and normalisation, by their values."""

import numpy as np
import pytest
from refused import refused

from jaxiqa.errors import DataError
from jaxiqa.inputs.transforms import Augment, augmented, normalise, random_crop, random_flip, resize_shorter


def test_augmentations():
    image = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    rng = np.random.default_rng(0)
    seen = {random_flip(image, rng).tobytes() for _ in range(64)}
    assert seen == {image[::i, ::j].tobytes() for i in (1, -1) for j in (1, -1)}
    corners = {tuple(random_crop(image, 5, rng)[0, 0]) for _ in range(200)}
    assert corners == {tuple(image[i, j]) for i in (0, 1) for j in range(4)}


def test_what_a_config_allows():
    """The positions of crops do not depend on the flips; the centre crop is in the centre."""
    image = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)

    def drawn(*allowed):
        return [augmented(image, 5, np.random.default_rng(seed), Augment(*allowed)) for seed in range(64)]

    def mirrored(crop):
        """(top-down, left-right), by the order of the pixels."""
        return crop[0, 0, 0] > crop[1, 0, 0], crop[0, 0, 0] > crop[0, 1, 0]

    assert {mirrored(crop) for crop in drawn()} == {(i, j) for i in (False, True) for j in (False, True)}
    assert {mirrored(crop) for crop in drawn(True, False)} == {(False, False), (False, True)}
    assert {mirrored(crop) for crop in drawn(False, True)} == {(False, False), (True, False)}
    corners = {tuple(crop[0, 0]) for crop in drawn(False, False)}
    assert corners == {tuple(image[i, j]) for i in (0, 1) for j in range(4)}
    for both, upright in zip(drawn(), drawn(True, False), strict=True):
        if mirrored(both) == mirrored(upright):
            np.testing.assert_array_equal(both, upright)
    for crop in drawn(False, False, "centre"):
        np.testing.assert_array_equal(crop, image[:5, 1:6])


def test_normalise():
    image = np.array([[[0, 51, 255]]], np.uint8)
    np.testing.assert_allclose(normalise(image, (0.5,) * 3, (0.5,) * 3), [[[-1.0, -0.6, 1.0]]], atol=1e-6)
    np.testing.assert_allclose(
        normalise(image, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))[0, 0],
        [-0.485 / 0.229, (0.2 - 0.456) / 0.224, (1 - 0.406) / 0.225],
        atol=1e-5,
    )


def test_an_image_of_the_right_size_is_left_alone():
    image = np.zeros((224, 300, 3), np.uint8)
    assert resize_shorter(image, 224) is image


ENLARGED = {(1, 1): (224, 224), (3, 5): (224, 373), (223, 900): (224, 904), (900, 223): (904, 224)}
ENLARGED |= {(2, 9): (224, 1008), (2, 90): (224, 10080)}


@pytest.mark.parametrize(("size", "expected"), ENLARGED.items())
def test_small_images_are_enlarged(size, expected):
    image = np.full((*size, 3), 77, np.uint8)
    enlarged = resize_shorter(image, 224)
    assert enlarged.shape == (*expected, 3) and enlarged.dtype == np.uint8
    assert (enlarged == 77).all()


def test_enlarging_is_smooth_and_keeps_the_place_of_things():
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, 20:] = 200
    enlarged = resize_shorter(image, 80).astype(int)
    assert (enlarged[:, :70] == 0).all() and (enlarged[:, 90:] == 200).all()
    assert len(np.unique(enlarged[0, 75:85, 0])) > 5  # an edge with intermediate values, not blocks


def test_a_strip_is_refused_before_it_fills_the_memory():
    with refused(DataError, "value", None, "4000 x 1"):
        resize_shorter(np.zeros((1, 4000, 3), np.uint8), 224)
