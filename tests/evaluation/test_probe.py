"""The linear probe on features whose classes are known to be separable, or known not to be."""

import numpy as np
import pytest

from jaxiqa.evaluation import probe as probes

NAMES, FAMILIES = ("none", "blur", "noise"), ("none", "soft", "hard")


def samples(distance, seed, n=600, width=20):
    rng = np.random.default_rng(seed)
    label = rng.integers(3, size=n)
    centres = distance * np.random.default_rng(7).standard_normal((3, width))
    return 50 + 1e3 * (rng.standard_normal((n, width)) + centres[label]) * np.geomspace(1e-3, 1, width), label


def test_separable_classes_are_found_whatever_the_features_scale():
    probe = probes.fit_probe(*samples(2.0, 0), NAMES, FAMILIES)
    x, label = samples(2.0, 1)
    assert (probe.predict(x) == label).mean() > 0.97


def test_noise_is_not_learnt():
    probe = probes.fit_probe(*samples(0.0, 0), NAMES, FAMILIES)
    x, label = samples(0.0, 1)
    assert (probe.predict(x) == label).mean() == pytest.approx(1 / 3, abs=0.07)


def test_save_and_load(tmp_path):
    probe = probes.fit_probe(*samples(2.0, 0), NAMES, FAMILIES)
    probe.save(tmp_path / "probe.npz")
    loaded = probes.Probe.load(tmp_path / "probe.npz")
    assert loaded.classes == NAMES and loaded.families == FAMILIES
    assert (loaded.weight == probe.weight).all() and (loaded.bias == probe.bias).all()


def test_confusion():
    counts = probes.confusion(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]), 3)
    assert counts.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
