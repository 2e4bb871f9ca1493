"""Oracles of a competition: known similarities, references that are found, and references that are not."""

import numpy as np
import pytest
from PIL import Image
from refused import refused
from skimage.metrics import structural_similarity

from jaxiqa.competition.judges import fidelities, fidelity, opinion
from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.errors import DataError

GREY = np.full((64, 64, 3), 100, np.uint8)


def test_psnr_by_hand():
    """An offset of d grey levels has a PSNR of 20 log10(255 / d): 28.13 dB for 10."""
    assert fidelity(GREY + np.uint8(10), GREY, "psnr") == pytest.approx(2.5 * (20 * np.log10(25.5) - 10))
    assert fidelity(GREY + np.uint8(1), GREY, "psnr") == pytest.approx(2.5 * (20 * np.log10(255) - 10))
    assert fidelity(GREY, GREY, "psnr") == 100
    almost = GREY.copy()
    almost[0, 0, 0] += 1
    assert fidelity(almost, GREY, "psnr") == 100  # 89 dB
    assert fidelity(np.full_like(GREY, 255), np.zeros_like(GREY), "psnr") == 0  # 0 dB


def test_ssim_by_hand():
    """Of two flat images only the luminance term is left: (2 a b + c) / (a^2 + b^2 + c), c = (0.01 255)^2."""
    c = 2.55**2
    expected = (2 * 100 * 120 + c) / (100**2 + 120**2 + c)
    assert fidelity(GREY + np.uint8(20), GREY, "ssim") == pytest.approx(100 * expected)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert fidelity(noise, noise, "ssim") == pytest.approx(100)
    assert fidelity(255 - noise, noise, "ssim") == 0  # SSIM is negative
    blurred = np.asarray(Image.fromarray(noise).resize((32, 32)).resize((64, 64)))
    channels = [
        structural_similarity(
            noise[..., i],
            blurred[..., i],
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for i in range(3)
    ]
    assert fidelity(blurred, noise, "ssim") == pytest.approx(100 * np.mean(channels))


def test_opinion_scores():
    records = [Record("a", 20.0, "a"), Record("b", 75.0, "b")]
    assert opinion(records, Dataset("live", records, (0.0, 100.0), False)) == [80, 25]
    assert opinion(records, Dataset("folder", records, (0.0, 80.0), True)) == [25, 93.75]
    records = [Record("a", float("nan"), "a")]
    with refused(DataError, "missing", "kadis700k"):
        opinion(records, Dataset("kadis700k", records, (1.0, 5.0), True))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep" / "refs").mkdir(parents=True)
    for name, level in (("deep/refs/I01.BMP", 100), ("deep/refs/I02.bmp", 50), ("a.png", 110), ("twin.png", 0)):
        Image.fromarray(np.full((64, 64, 3), level, np.uint8)).save(tmp_path / name)
    Image.fromarray(GREY).save(tmp_path / "deep" / "twin.png")
    Image.fromarray(GREY[:32]).save(tmp_path / "half.png")
    return tmp_path


def test_references_are_found_by_path_or_by_name(folder):
    path = str(folder / "a.png")
    records = [Record(path, 1.0, "a", reference) for reference in ("deep/refs/I02.bmp", "I01", "i02")]
    far, near = (2.5 * (20 * np.log10(255 / d) - 10) for d in (60, 10))
    assert fidelities(records, str(folder), "psnr") == pytest.approx([far, near, far])


@pytest.mark.parametrize(
    ("reference", "code", "named"),
    [
        ("", "missing", ("psnr",)),
        ("I03", "not_found", ("I03",)),
        ("twin", "not_found", ("deep/twin.png", "/twin.png")),
        ("half", "mismatch", ("64 x 64", "64 x 32")),
    ],
)
def test_references_that_are_not_found(folder, reference, code, named):
    with refused(DataError, code, None, "a", *named):
        fidelities([Record(str(folder / "a.png"), 1.0, "a", reference)], str(folder), "psnr")
