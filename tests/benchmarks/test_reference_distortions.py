"""The reference distortions of the benchmarks run, and their results are images."""

import warnings

import numpy as np
import pytest

from jaxiqa.benchmarks.reference_distortions import REFERENCE
from jaxiqa.distortions import DISTORTIONS


@pytest.mark.parametrize("row", DISTORTIONS, ids=lambda row: row.name)
def test_reference_distortions(row):
    image = np.random.default_rng(0).uniform(0.2, 0.8, (96, 128, 3))
    with warnings.catch_warnings(action="ignore"):
        result = REFERENCE[row.name](image.copy(), row.levels[4], np.random.default_rng(1))
    assert result.shape == image.shape and np.isfinite(result).all()
    assert result.min() >= -1e-6 and result.max() <= 1 + 1e-6 and np.abs(result - image).max() > 0.01
