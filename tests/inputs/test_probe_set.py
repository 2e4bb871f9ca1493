"""The samples that a probe of distortions is fitted on."""

import numpy as np
import pytest
from skimage.data import coffee

from jaxiqa.distortions import DISTORTIONS, distort_exact, get_distortion
from jaxiqa.distortions.table import UNCHANGED
from jaxiqa.inputs import probe_set
from jaxiqa.inputs.probe_set import KIND_FAMILIES, KINDS, samples, side_of


def test_severity_follows_the_strength_of_the_levels():
    found = {row.name: [row.severity(level) for level in range(1, 6)] for row in DISTORTIONS}
    assert found["jpeg"] == [1, 2, 3, 4, 5]
    assert found["gaussian_blur"] == [0, 2, 3, 4, 5]
    assert found["mean_shift"] == pytest.approx([5, 10 / 3, 0, 10 / 3, 5])
    assert found["contrast_change"] == pytest.approx([5, 10 / 3, 5 / 3, 2.5, 5])


@pytest.mark.parametrize("cell", [cell for cell in UNCHANGED if cell[0] != "motion_blur"])  # the others compile faster
def test_unchanged_levels_do_not_change_an_image(cell):
    image = coffee()[:64, :64]
    error = np.abs(distort_exact(image, *cell, 0, stretch=False).astype(int) - image)
    assert error.max() <= 1


def test_samples(monkeypatch):
    """With the two types that compile fastest."""
    monkeypatch.setattr(probe_set, "DISTORTIONS", [get_distortion("darken"), get_distortion("mean_shift")])
    found = [list(samples(coffee()[:90, :50], 64, turn)) for turn in (0, 0, 1)]
    for one, again in zip(*found[:2], strict=True):
        assert one.label == again.label and (one.image == again.image).all()
    clean = [sample for sample in found[0] if sample.label == 0]
    assert len(clean) >= 16 and all(sample.severity == 0 and sample.image.shape == (64, 64, 3) for sample in clean)
    others = {(KINDS[sample.label], sample.severity) for part in found for sample in part if sample.label}
    assert {name for name, _ in others} == {"darken", "mean_shift"} and len(others) >= 4
    assert len(KINDS) == len(KIND_FAMILIES) == 26


def test_the_side_of_a_sample_holds_a_crop_at_each_scale():
    assert side_of(224, (1,)) == 224 and side_of(224, (1, 2)) == 448 and side_of(32, (1,)) == 64
    assert side_of(64, (0, 1)) == 64
