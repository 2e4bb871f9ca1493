"""Quality maps: they are the scores of overlapping crops, and show where an image is bad."""

import numpy as np
import pytest
from PIL import Image
from refused import refused
from small_checkpoint import write_source

import jaxiqa
from jaxiqa.datasets.records import Scale
from jaxiqa.errors import DataError
from jaxiqa.scoring import maps
from jaxiqa.scoring.crops import grid, overlap_shape, parse_policy, positions


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    scale = Scale(1.0, 5.0, higher_is_better=False)
    return write_source(tmp_path_factory.mktemp("maps") / "compact", "arniqa", labels="native", scale=scale)


@pytest.fixture(scope="module")
def image():
    """Noise on the left, an even gradient on the right."""
    x = np.linspace(40, 200, 200)[None, :, None] + np.zeros((150, 1, 3))
    x[:, :100] += 40 * np.random.default_rng(0).standard_normal((150, 100, 3))
    return np.clip(x, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 300), (150, 200)])
def test_overlapping_crops_hold_those_of_the_grid(height, width):
    blank = np.zeros((height, width, 3), np.uint8)
    dense = positions(parse_policy("overlap"), blank, 64)
    assert len(dense) == np.prod(overlap_shape(height, width, 64))
    every_other = dense.reshape(*overlap_shape(height, width, 64), 2)[::2, ::2].reshape(-1, 2)
    np.testing.assert_allclose(every_other, grid(height, width, 64), atol=1)


def test_the_mean_is_the_score_under_the_maps_crops(checkpoint, image):
    found = jaxiqa.create_metric(checkpoint=checkpoint).map(image)
    expected = jaxiqa.create_metric(checkpoint=checkpoint, crops="overlap")(image)
    assert found.scores.shape == (5, 7) and np.ptp(found.scores) > 1e-3
    assert found.scores.mean() == pytest.approx(expected, abs=1e-3)
    pixels = found.pixels()
    assert pixels.shape == (150, 200) and pixels[0, 0] == pytest.approx(found.scores[0, 0], abs=1e-3)


def test_boxes_are_around_the_worst_parts_and_do_not_overlap():
    scores = np.full((3, 5), 80.0)
    scores[1, 3], scores[1, 4], scores[0, 0] = 10, 20, 30
    corners = np.stack(np.meshgrid(np.arange(3) * 32, np.arange(5) * 32, indexing="ij"), -1)
    found = maps.QualityMap(scores, corners, 64, np.zeros((128, 192, 3), np.uint8))
    assert found.worst() == [(32, 96, 10.0), (0, 0, 30.0)]
    assert maps.QualityMap(np.full((3, 5), 80.0), corners, 64, found.image).worst() == []


def test_files(checkpoint, image, tmp_path):
    found = jaxiqa.create_metric(checkpoint=checkpoint).map(image)
    maps.write(tmp_path, "one", found, "one.png: score 50")
    assert np.array_equal(np.load(tmp_path / "one.npy"), found.scores)
    with Image.open(tmp_path / "one.png") as overlay:
        assert overlay.size[0] == pytest.approx(8.5 * 120, abs=2)


def test_an_image_that_cannot_be_read(checkpoint):
    with refused(DataError, "format"):
        jaxiqa.create_metric(checkpoint=checkpoint).map(b"not an image")
