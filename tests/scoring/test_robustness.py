"""Stability of scores: the versions of an image, and the numbers that are reported of them."""

import numpy as np
import pytest
from PIL import Image

from jaxiqa.datasets.readers.sample import KADID_MEANS
from jaxiqa.distortions import distort_exact, get_distortion
from jaxiqa.inputs.changes import COUNT, HARMLESS, LEVELS, TYPES
from jaxiqa.scoring import robustness


def scores(change=0.0, rise=0.0):
    """Two images: clean 80, harmless versions 80 + change, then falling by 5 a level, and one level that rises.

    The levels of each type are those of its first chain, from weak to strong; others are 55.
    """
    falling = np.full((len(TYPES), len(LEVELS)), 55.0)
    for row, (first, *_) in zip(falling, TYPES.values(), strict=True):
        row[list(first)] = 80 - 5.0 * np.arange(1, 1 + len(first))
    one = np.concatenate([[80.0], np.full(len(HARMLESS), 80 + change), falling.ravel()])
    found = np.stack([one, one])
    found[0, 1 + len(HARMLESS) + 2] += 5 + rise  # the third level of the first type
    return found


def test_changes_and_order_are_counted():
    found = robustness.summarise(scores(-2.0, rise=0.6))
    assert [row["change"] for row in found["changes"]] == list(HARMLESS)
    assert {row["mean_size"] for row in found["changes"]} == {2.0} and found["changes"][0]["mean"] == -2.0
    assert found["types"][0]["in_order"] == 0.5 and {row["in_order"] for row in found["types"][1:]} == {1.0}
    assert {row["fall"] for row in found["types"]} == {25.0}
    assert robustness.summarise(scores(rise=0.4))["types"][0]["in_order"] == 1.0  # too little to count


@pytest.mark.parametrize("name", ["mean_shift", "contrast_change"])
def test_levels_that_change_their_sign_are_compared_with_those_of_their_sign(name):
    """KADID-10k's own means are in order by strength, not by number; and so is the size of the change."""
    row = get_distortion(name)
    means = 25 * (np.array([KADID_MEANS[row.id - 1]]) - 1)
    assert robustness.in_order(means, row.chains) and not robustness.in_order(means, (range(5),))
    source = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    change = np.array([np.abs(distort_exact(source, name, k, 0, stretch=False) - 1.0 * source).mean() for k in LEVELS])
    assert all((np.diff(change[list(chain)]) > 0).all() for chain in row.chains)


def test_files(tmp_path):
    text = robustness.write(tmp_path, robustness.summarise(scores(1.5, 3.0)), "a model")
    assert all(name in text for name in HARMLESS) and next(iter(TYPES)) in text
    with Image.open(tmp_path / "robustness.png") as figure:
        assert figure.size[0] > 1000
    assert (tmp_path / "robustness.json").stat().st_size > 1000


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_changes_change_little(name):
    y, x = np.mgrid[:96, :128]
    image = np.stack([128 + 60 * np.sin(x / 9), 128 + 60 * np.cos(y / 7), (x + y) / 2], -1).astype(np.uint8)
    changed = HARMLESS[name](image)
    assert changed.dtype == np.uint8 and changed.shape[2] == 3
    assert all(abs(a - b) <= 16 for a, b in zip(changed.shape, image.shape, strict=True))
    assert abs(changed.mean() - image.mean()) < 6
    assert COUNT == 131
