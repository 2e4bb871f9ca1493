"""Colour quantisation and multi-level Otsu against other implementations."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from skimage.data import coffee
from skimage.filters import threshold_multiotsu

from jaxiqa.distortions import distort, distort_exact, get_distortion
from jaxiqa.distortions.families.thresholds import BINS, otsu_cuts

LEVELS = (1, 2, 3, 4, 5)
PICTURE = coffee()[100:292, 100:356]
PICTURE01 = PICTURE.astype(np.float32) / 255


def squared_error(a, b):
    return np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)


@pytest.mark.parametrize("level", LEVELS)
def test_palette_is_as_good_as_pillows(level):
    colours = int(get_distortion(6).levels[level - 1])
    result = np.rint(255 * np.asarray(distort(PICTURE01, 6, level, None, stretch=False))).astype(int)
    palette = np.unique(result.reshape(-1, 3), axis=0)
    assert len(palette) <= colours
    distance = ((PICTURE[:, :, None, :].astype(int) - palette) ** 2).sum(axis=-1).min(axis=-1)
    ours = distance.mean() / 3
    median_cut = Image.fromarray(PICTURE).quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    clusters = Image.fromarray(PICTURE).quantize(colours, Image.Quantize.MEDIANCUT, kmeans=10, dither=Image.Dither.NONE)
    others = [squared_error(np.array(p.convert("RGB")), PICTURE) for p in (median_cut, clusters)]
    gains = [10 * np.log10(other / ours) for other in others]
    print(f"{colours} colours: {gains[0]:.2f} dB on median cut, {gains[1]:.2f} dB on k-means")
    assert gains[0] > 0 and gains[1] > -1.5


def test_dither_keeps_the_local_mean():
    result = np.asarray(distort(PICTURE01, 6, 5, None, stretch=False))
    blocks = lambda x: x.reshape(12, 16, 16, 16, 3).mean(axis=(1, 3))  # noqa: E731
    inside = np.abs(blocks(PICTURE01) - 0.5) < 0.3  # colours outside the palette's hull cannot be mixed
    assert np.sqrt(np.mean((blocks(result) - blocks(PICTURE01))[inside] ** 2)) < 0.03


def test_few_colours_stay_as_they_are():
    rng = np.random.default_rng(0)
    palette = rng.integers(0, 256, (8, 3))
    image = palette[rng.integers(0, 8, (64, 64))].astype(np.float32) / 255
    np.testing.assert_allclose(distort(image, 6, 1, None, stretch=False), image, atol=1e-6)


def test_kadid_owners_colour_quantisation(shared):
    folder = shared / "data" / "official_samples" / "KADID10K" / "images"
    if not (folder / "I01_06_05.png").exists():
        pytest.skip("no KADID-10k sample")
    read = lambda name: np.array(Image.open(folder / name).convert("RGB"))  # noqa: E731
    ours, theirs = distort_exact(read("I01.png"), 6, 5, None), read("I01_06_05.png")
    palettes = [np.unique(x.reshape(-1, 3), axis=0).astype(int) for x in (ours, theirs)]
    np.testing.assert_allclose(*palettes, atol=3)
    blocks = lambda x: x.reshape(48, 8, 64, 8, 3).mean(axis=(1, 3))  # noqa: E731
    assert squared_error(blocks(ours), blocks(theirs)) < 5  # 41 dB


def histogram(image):
    return np.bincount(np.asarray(image).reshape(-1), minlength=BINS).astype(np.int32)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_otsu_is_scikit_images(classes):
    counts = histogram(PICTURE)
    cuts = np.asarray(otsu_cuts(jnp.asarray(counts), jnp.int32(classes - 1)))[: classes - 1]
    np.testing.assert_array_equal(cuts - 1, threshold_multiotsu(hist=(counts, np.arange(BINS)), classes=classes))


def variance_within(counts, cuts):
    total = 0.0
    for low, high in zip([0, *cuts], [*cuts, BINS], strict=True):
        weight, values = counts[low:high].astype(np.float64), np.arange(low, high)
        if weight.sum():
            total += (weight * (values - np.average(values, weights=weight)) ** 2).sum()
    return total / counts.sum()


def best_variance_within(counts, classes):
    """Returns the best variance by dynamic programming over the variance itself, in double precision."""
    p, m, s = (np.concatenate([[0], np.cumsum(counts * np.arange(BINS, dtype=np.float64) ** k)]) for k in range(3))
    with np.errstate(invalid="ignore", divide="ignore"):
        cost = (s[None] - s[:, None]) - (m[None] - m[:, None]) ** 2 / (p[None] - p[:, None])
    cost = np.where(p[None] > p[:, None], cost, 0)
    cost[np.tril_indices(BINS + 1, -1)] = np.inf
    best = cost[0]
    for _ in range(classes - 1):
        best = (best[:, None] + cost).min(axis=0)
    return best[-1] / counts.sum()


@pytest.mark.parametrize("level", LEVELS)
def test_otsu_is_the_best_there_is(level):
    thresholds = int(get_distortion(22).levels[level - 1])
    counts = histogram(PICTURE)
    cuts = np.asarray(otsu_cuts(jnp.asarray(counts), jnp.int32(thresholds)))[:thresholds]
    assert (np.diff(cuts) > 0).all()
    np.testing.assert_allclose(variance_within(counts, cuts), best_variance_within(counts, thresholds + 1), rtol=1e-4)


@pytest.mark.parametrize("level", LEVELS)
def test_values_are_the_thresholds(level):
    thresholds = int(get_distortion(22).levels[level - 1])
    image = PICTURE01.copy()
    image[0, :2] = [[0, 0, 0], [1, 1, 1]]  # so that bins are 8-bit values
    counts = histogram(np.rint(255 * image).astype(int))
    cuts = np.asarray(otsu_cuts(jnp.asarray(counts), jnp.int32(thresholds)))[:thresholds]
    values = np.array([0, *(cuts[1:] - 1) / 255, 1])
    expected = values[np.searchsorted(cuts, np.rint(255 * image), side="right")]
    np.testing.assert_allclose(distort(image, 22, level, None, stretch=False), expected, atol=1e-6)
