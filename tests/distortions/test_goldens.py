"""PSNR against images of the public MATLAB code (in Octave), of KADID-10k's owners and of the real JPEG codec."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxiqa.distortions import distort, distort_exact, get_distortion

LEVELS = (1, 2, 3, 4, 5)


def psnr(a, b):
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return np.inf if error == 0 else 10 * np.log10(255**2 / error)


def read(path):
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


@pytest.mark.parametrize("type", [1, 2, 4, 7, 8, 10, 16, 17, 18, 21, 24, 25])
def test_matlab_goldens(shared, type):
    folder = shared / "goldens" / "distortions"
    reference = read(folder / "reference.png")
    scores = [
        psnr(distort_exact(reference, type, level, None), read(folder / f"{type:02d}_{level:02d}.png"))
        for level in LEVELS
    ]
    print(f"{type:2d} {get_distortion(type).name:22s}", *(f"{score:6.2f}" for score in scores), "dB")
    assert min(scores) >= 60


@pytest.mark.parametrize("level", [2, 5])
def test_kadid_owners_gaussian_blur(shared, level):
    folder = shared / "data" / "official_samples" / "KADID10K" / "images"
    score = psnr(distort_exact(read(folder / "I01.png"), 1, level, None), read(folder / f"I01_01_{level:02d}.png"))
    print(f"I01_01_{level:02d} {score:.2f} dB")
    assert score >= 60


@pytest.mark.parametrize("size", [(67, 93), (86, 72)])  # odd; even, but not a multiple of 16
def test_device_jpeg_is_the_codec(size):
    y, x = np.mgrid[: size[0], : size[1]] / 20
    smooth = np.stack([np.sin(x + y), np.cos(2 * x - y), np.sin(x * y / 3)], axis=-1)
    noise = np.random.default_rng(0).normal(0, 0.2, smooth.shape)
    image = np.clip(128 + 90 * (smooth + noise), 0, 255).astype(np.uint8)
    scores = []
    for level in LEVELS:
        device = distort(jnp.asarray(image, jnp.float32) / 255, "jpeg", level, None, stretch=False)
        codec = distort_exact(image, "jpeg", level, None, stretch=False)
        scores.append(psnr(np.rint(255 * np.asarray(device)), codec))
    print(size, *(f"{score:.2f}" for score in scores), "dB")
    assert min(scores) >= 60


def test_jpeg2000_reaches_its_quality_order():
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 256, (16, 16, 3)), np.ones((12, 12, 1))).astype(np.uint8)
    scores = [psnr(distort_exact(image, "jpeg2000", level, None, stretch=False), image) for level in LEVELS]
    assert all(better > worse for better, worse in itertools.pairwise(scores)), scores
