"""Checkpoints of released versions score as they did; this version's losses are those it had (R13, F30)."""

import json

import pytest

import jaxiqa
from tests.faults.golden import HERE, STEPS, scores, this_platform, train

pytestmark = pytest.mark.slow

VERSIONS = sorted(path.parent.name for path in HERE.glob("goldens/*/golden.json"))


def golden(version: str) -> dict:
    return json.loads((HERE / "goldens" / version / "golden.json").read_text())


def score_difference(version: str, pictures) -> float:
    """The largest difference from the scores that the version gave, on the scale 0..1."""
    expected, seen = golden(version)["scores"], scores(HERE / "goldens" / version, pictures)
    assert len(expected) == 15 and expected.keys() == seen.keys()
    return max(abs(seen[name] - expected[name]) for name in expected) / 100


def loss_difference(workdir, pictures) -> tuple[float, bool]:
    """The largest relative difference from this version's losses, and whether they were made on this platform."""
    about = golden(jaxiqa.__version__)
    pairs = zip(train(workdir, pictures), map(float.fromhex, about["losses"]), strict=True)
    return max(abs(seen - expected) / expected for seen, expected in pairs), about["platform"] == this_platform()


def test_this_version_has_a_golden():
    assert jaxiqa.__version__ in VERSIONS and len(golden(jaxiqa.__version__)["losses"]) == STEPS


@pytest.mark.parametrize("version", VERSIONS)
def test_scores(version, pictures):
    assert score_difference(version, pictures) <= 1e-6


def test_losses(pictures, tmp_path):
    """Bit for bit where they were made; another processor may round another way."""
    difference, same_platform = loss_difference(tmp_path, pictures)
    assert difference <= (0 if same_platform else 1e-5)
