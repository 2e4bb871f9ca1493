"""Crops: the grid covers every pixel, random crops are uniform and repeatable, other policies are refused."""

import numpy as np
import pytest

from jaxiqa.errors import ConfigError
from jaxiqa.inputs.scales import same_place, shrink
from jaxiqa.scoring.crops import Policy, cut_crops, five, grid, lattice, parse_policy, positions, random_positions


def sizes(n: int, crops: tuple[int, int], largest: int):
    rng = np.random.default_rng(0)
    for _ in range(n):
        crop = int(rng.integers(*crops))
        yield *(int(side) for side in crop + rng.integers(0, largest, 2)), crop


def test_grid_shows_every_pixel_to_the_model():
    """One pixel is set at a time; each must be in at least one crop."""
    for height, width, crop in sizes(20, (1, 30), 16):
        places = grid(height, width, crop)
        for row in range(height):
            for column in range(width):
                image = np.zeros((height, width), np.uint8)
                image[row, column] = 1
                assert any(image[top : top + crop, left : left + crop].any() for top, left in places)


def test_grid_covers_large_images_with_the_fewest_crops_evenly_spaced():
    for height, width, crop in sizes(200, (16, 225), 900):
        places = grid(height, width, crop)
        seen = np.zeros((height, width), np.int32)
        for top, left in places:
            assert 0 <= top <= height - crop and 0 <= left <= width - crop
            seen[top : top + crop, left : left + crop] += 1
        assert seen.min() >= 1
        # Points crop pixels apart can never share a crop: fewer crops than points cannot cover.
        assert len(places) == len(range(0, height, crop)) * len(range(0, width, crop))
        for axis in (0, 1):
            steps = np.diff(np.unique(places[:, axis]))
            assert len(steps) == 0 or steps.max() - steps.min() <= 1


def test_grid_of_known_sizes():
    assert grid(224, 224, 224).tolist() == [[0, 0]]
    assert grid(224, 225, 224).tolist() == [[0, 0], [0, 1]]
    assert grid(384, 512, 224).tolist() == [[0, 0], [0, 144], [0, 288], [160, 0], [160, 144], [160, 288]]
    assert len(grid(768, 1024, 224)) == 4 * 5
    assert grid(5, 3, 3).dtype == np.int64


@pytest.mark.parametrize(
    ("height", "width", "n", "rows", "columns"),
    [
        (1080, 1920, 25, 4, 6),
        (1920, 1080, 25, 6, 4),
        (1000, 1000, 25, 5, 5),
        (1000, 1000, 24, 4, 6),
        (3000, 4000, 25, 4, 6),
        (3000, 4000, 12, 3, 4),
        (96, 5000, 25, 1, 25),
        (100, 5000, 25, 2, 12),
        (100, 200, 25, 2, 3),  # as many as the grid
        (96, 96, 25, 1, 1),
        (500, 900, 4, 2, 2),
        (500, 900, 3, 1, 3),
        (900, 500, 2, 2, 1),
        (500, 900, 1, 1, 1),
    ],
)
def test_auto_takes_rows_and_columns_of_the_shape_of_the_image(height, width, n, rows, columns):
    places = positions(Policy("auto", n), np.zeros((height, width, 3), np.uint8), 96)
    tops, lefts = (sorted(set(axis)) for axis in places.T.tolist())
    assert (len(tops), len(lefts), len(places)) == (rows, columns, rows * columns)
    for starts, side in ((tops, height), (lefts, width)):
        assert (starts[0], starts[-1]) == ((0, side - 96) if len(starts) > 1 else ((side - 96) // 2,) * 2)


def test_auto_is_bounded_by_its_number_and_by_the_grid_and_covers_corners():
    rng = np.random.default_rng(1)
    for height, width, crop in sizes(300, (1, 120), 2000):
        n, whole = int(rng.integers(1, 60)), grid(height, width, crop)
        places = lattice(height, width, crop, n)
        assert 1 <= len(places) <= min(n, len(whole)) and places.dtype == np.int64
        assert places.min() >= 0 and (places <= [height - crop, width - crop]).all()
        if len(whole) <= n:
            assert places.tolist() == whole.tolist()
        elif n >= 4:
            assert {(0, 0), (0, width - crop), (height - crop, 0), (height - crop, width - crop)} <= set(
                map(tuple, places.tolist())
            )
            for axis in (0, 1):
                steps = np.diff(np.unique(places[:, axis]))
                assert len(steps) == 0 or steps.max() - steps.min() <= 1


def test_random_positions_are_uniform_over_all_places():
    places = random_positions(12, 15, 10, 9000, seed=1)
    assert places.shape == (9000, 2) and places.dtype == np.int64
    counts = np.zeros((3, 6))
    np.add.at(counts, tuple(places.T), 1)
    expected = 9000 / 18
    assert ((counts - expected) ** 2 / expected).sum() < 33.4  # chi-square, 17 degrees of freedom, p = 0.01
    assert (random_positions(10, 10, 10, 5, seed=2) == 0).all()


def test_random_crops_belong_to_the_image():
    policy = parse_policy("random:25")
    image = np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)
    one = positions(policy, image, 20)
    assert one.shape == (25, 2)
    assert one[:2].tolist() == [[3, 19], [17, 10]]  # the same in every process
    assert (one == positions(policy, image.copy(order="F"), 20)).all()
    changed = image.copy()
    changed[0, 0, 0] += 1
    assert (one != positions(policy, changed, 20)).any()


def test_policies():
    assert parse_policy("grid") == Policy("grid")
    assert parse_policy("random:50") == Policy("random", 50)
    assert parse_policy("auto:25") == Policy("auto", 25)
    names = ["grid", "five", "auto:9", "random:7", "whole"]
    assert [str(parse_policy(text)) for text in names] == names
    assert [parse_policy(text).min_side(64) for text in names] == [64, 1, 64, 64, 64]
    whole = positions(parse_policy("whole"), np.zeros((64, 97, 3), np.uint8), 33, 32)
    assert whole.tolist() == [[0, 0], [0, 32], [0, 64]]  # a patch of 32 starts where more than 32 pixels are left
    assert (positions(parse_policy("grid"), np.zeros((300, 310, 3), np.uint8), 224) == grid(300, 310, 224)).all()


def test_five_crops_of_known_sizes():
    corners = [[0, 0], [76, 0], [0, 177], [76, 177]]  # of 300 x 401: top left, bottom left, top right, bottom right
    assert five(300, 401, 224).tolist() == [[38, 88], *corners]
    assert five(150, 200, 224).tolist() == [[-37, -12], [0, 0], [-74, 0], [0, -24], [-74, -24]]
    assert five(1, 3, 4).tolist() == [[-2, -1], [0, 0], [-3, 0], [0, -1], [-3, -1]]


@pytest.mark.parametrize("size", [(9, 12), (4, 4), (3, 12), (1, 1), (2, 7)])
def test_what_lies_outside_an_image_is_black(size):
    """Each pixel of each crop is the image's, or black where the image has none."""
    image = np.random.default_rng(0).integers(1, 256, (*size, 3), dtype=np.uint8)
    crops = cut_crops(parse_policy("five"), image, 4)
    for (top, left), crop in zip(five(*size, 4), crops, strict=True):
        for row, column in np.ndindex(4, 4):
            y, x = top + row, left + column
            inside = 0 <= y < size[0] and 0 <= x < size[1]
            assert np.array_equal(crop[row, column], image[y, x] if inside else [0, 0, 0])


@pytest.mark.parametrize("policy", ["five", "grid", "random:4"])
def test_crops_at_two_scales_are_of_the_same_place(policy):
    """The crops at half the size lie below those of the image, and both are at the same edges."""
    rng = np.random.default_rng(1)
    image = rng.integers(1, 256, (41, 60, 3), dtype=np.uint8)
    half = shrink(image, 2)
    assert half.shape == (20, 30, 3)
    crops = cut_crops(parse_policy(policy), image, 16, scales=(1, 2))
    corners = positions(parse_policy(policy), image, 16)
    assert len(crops) == len(corners) and all(crop.shape == (32, 16, 3) for crop in crops)
    for (top, left), crop in zip(corners, crops, strict=True):
        assert np.array_equal(crop[:16], image[top : top + 16, left : left + 16])
        y, x = same_place((top, left), image.shape, half.shape, 16)
        if policy == "five" and (top, left) == (12, 22):
            y, x = 2, 7  # the centre of the half, where rounding may differ
        assert np.array_equal(crop[16:], half[y : y + 16, x : x + 16])
        for side, full, place, there in ((41, top, y, 20), (60, left, x, 30)):
            assert full > 0 or place == 0
            assert full < side - 16 or place == there - 16


MISTAKES = {
    "": "grid", "Grid": "grid", "gird": "grid", "grids": "grid", "Five": "five", "fiv": "five", "5": "grid",
    "five:5": "five", "random": "random:25",
    "random25": "random:25", "random:": "random:25", "random:0": "random:25", "random:-3": "random:3",
    "random: 50": "random:50", "ramdom:50": "random:50", "random:05": "random:5", "random:2.5": "random:25",
    "rand:10": "random:10", "random:1e3": "random:13", "all": "grid", "whole:1": "whole", "hole": "whole",
    "auto": "auto:25", "auto:0": "auto:25", "Auto:9": "auto:9", "auto25": "auto:25", "automatic": "auto:25",
}  # fmt: skip


@pytest.mark.parametrize("text", MISTAKES)
def test_other_policies_are_refused_with_a_suggestion(text):
    with pytest.raises(ConfigError) as caught:
        parse_policy(text)
    assert repr(text) in str(caught.value)
    assert str(caught.value).endswith(f"did you mean {MISTAKES[text]!r}?")
    assert str(parse_policy(MISTAKES[text])) == MISTAKES[text]


@pytest.mark.parametrize("size", [(10, 30), (30, 10), (0, 30)])
def test_an_image_smaller_than_the_crop_has_no_crops(size):
    with pytest.raises(ValueError, match="no crop of 20 pixels fits"):
        grid(*size, 20)
    with pytest.raises(ValueError, match="no crop of 20 pixels fits"):
        random_positions(*size, 20, 5, seed=0)
    with pytest.raises(ValueError, match="no crop of 20 pixels fits"):
        lattice(*size, 20, 5)
