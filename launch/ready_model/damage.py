"""How much an image lost against its own source, and the opinion score that this damage suggests.

The opinion scores of KADID-10k's 125 cells (25 types at 5 levels) say how a distortion looks on average. They ignore
the image: the same blur is invisible on a sky and fatal on foliage. So the damage of each crop is measured against its
source, a ridge regression from the mean damage of a cell to the published mean score of the cell is fitted, and a crop
gets the score of its cell, shifted by what the regression says about this crop. Crops without a cell (chains of
codecs, resized images, two distortions) get the score of the regression.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxiqa.datasets.readers.sample import KADID_MEANS

CLEAN = 4.7  # score of an undistorted crop, a little above the best cell (4.61)
_SHIFT = 0.7  # weight of the crop's own damage in the score of a crop that has a cell
_RIDGE = 10.0
_WEIGHT_OF_CLEAN = 10.0  # of the clean cell in the fit; every other cell has 1
# Columns of `damage` that are dissimilarities of at least 0; the others are signed changes.
_DISSIMILAR = (0, 1, 2, 4, 5, 6, 8, 9, 10, 12)
_SIGNED = (3, 7, 11, 13, 14, 15)
_YCBCR = ((0.299, 0.587, 0.114), (-0.169, -0.331, 0.5), (0.5, -0.419, -0.081))


def _blur(x_HW):
    """Gaussian of standard deviation 1.5 pixels, edges repeated."""
    kernel = jnp.exp(-0.5 * (jnp.arange(-5, 6) / 1.5) ** 2)
    kernel = kernel / kernel.sum()
    x = jnp.pad(x_HW, 5, mode="edge")
    x = sum(kernel[i] * x[i : i + x.shape[0] - 10] for i in range(11))
    return sum(kernel[i] * x[:, i : i + x.shape[1] - 10] for i in range(11))


def _half(x_HW):
    return (x_HW[::2, ::2] + x_HW[1::2, ::2] + x_HW[::2, 1::2] + x_HW[1::2, 1::2]) / 4


def _ssim(a_HW, b_HW):
    """Structural similarity of luminances 0..255, pixel by pixel (Wang et al., IEEE TIP 2004)."""
    ma, mb = _blur(a_HW), _blur(b_HW)
    va, vb = _blur(a_HW * a_HW) - ma * ma, _blur(b_HW * b_HW) - mb * mb
    covariance = _blur(a_HW * b_HW) - ma * mb
    return (2 * ma * mb + 6.5) * (2 * covariance + 58.5) / ((ma * ma + mb * mb + 6.5) * (va + vb + 58.5))


def _gradient(x_HW):
    """Magnitude of the Prewitt gradient."""
    p, (h, w) = jnp.pad(x_HW, 1, mode="edge"), x_HW.shape
    at = [[p[i : i + h, j : j + w] for j in range(3)] for i in range(3)]
    gx = (at[0][2] + at[1][2] + at[2][2] - at[0][0] - at[1][0] - at[2][0]) / 3
    gy = (at[2][0] + at[2][1] + at[2][2] - at[0][0] - at[0][1] - at[0][2]) / 3
    return jnp.sqrt(gx * gx + gy * gy + 1e-6)


@jax.jit
def _maps(source_HWC, image_HWC):
    a, b = (x.astype(jnp.float32) @ jnp.array(_YCBCR).T for x in (source_HWC, image_HWC))
    ya, yb, maps = a[..., 0], b[..., 0], []
    for factor in (1, 2, 4):
        ga, gb = _gradient(ya), _gradient(yb)
        similarity = (2 * ga * gb + 170) / (ga * ga + gb * gb + 170)  # as in GMSD (Xue et al., IEEE TIP 2014)
        for m in (1 - _ssim(ya, yb), 1 - similarity, ga, gb):
            maps.append(jnp.repeat(jnp.repeat(m, factor, 0), factor, 1))
        ya, yb = _half(ya), _half(yb)
    maps += [jnp.abs(a[..., 1:] - b[..., 1:]).sum(-1), a[..., 0], b[..., 0]]
    maps.append(jnp.sqrt((b[..., 1:] ** 2).sum(-1)) - jnp.sqrt((a[..., 1:] ** 2).sum(-1)))
    return jnp.stack(maps, -1)


def damage(source_HWC, image_HWC, corners, crop: int) -> np.ndarray:
    """Damage of crops of an image: float32 (crops, 16).

    For each of three scales: mean of 1 - SSIM; mean and standard deviation of 1 - gradient similarity; log ratio of the
    gradients. Then the change of chroma, the change of luminance, the log ratio of contrast, the change of saturation.

    Args:
      source_HWC, image_HWC: uint8 (H, W, 3), the undistorted image and the distorted one; sides divisible by 4.
      corners: (top, left) of each crop.
      crop: side of a crop in pixels.
    """
    maps, rows = np.asarray(_maps(source_HWC, image_HWC)), []
    for top, left in corners:
        part = maps[top : top + crop, left : left + crop].reshape(-1, maps.shape[-1])
        mean, deviation = part.mean(0), part.std(0)
        row = []
        for k in (0, 4, 8):
            row += [mean[k], mean[k + 1], deviation[k + 1], np.log((mean[k + 3] + 1) / (mean[k + 2] + 1))]
        row += [mean[12], mean[14] - mean[13], np.log((deviation[14] + 2) / (deviation[13] + 2)), mean[15]]
        rows.append(row)
    return np.array(rows, np.float32)


def scores(damage_ND: np.ndarray, type_N: np.ndarray, level_N: np.ndarray) -> np.ndarray:
    """Score of each crop on KADID-10k's scale, 1 to 5, float64 (N,).

    Args:
      damage_ND: from `damage`.
      type_N: 1..25 for KADID-10k's types, 0 for undistorted crops, other numbers for crops without a cell.
      level_N: 1..5; not read for crops without a cell.
    """
    x = _design(damage_ND)
    cells = {(0, 0): (x[type_N == 0].mean(0), CLEAN, _WEIGHT_OF_CLEAN)}
    for type_, means in enumerate(KADID_MEANS, 1):
        for level, mean in enumerate(means, 1):
            here = (type_N == type_) & (level_N == level)
            if here.any():
                cells[type_, level] = x[here].mean(0), mean, 1.0
    suggested = _ridge(*map(np.array, zip(*cells.values(), strict=True)))(x)
    found = suggested.copy()
    for (type_, level), (_, mean, _) in cells.items():
        here = (type_N == type_) & (level_N == level) if type_ else type_N == 0
        shift = _SHIFT * (suggested[here] - suggested[here].mean()) if type_ else 0.0
        found[here] = mean + shift
    return np.clip(found, 1.0, CLEAN + 0.1)


def _design(damage_ND: np.ndarray) -> np.ndarray:
    d = damage_ND.astype(np.float64)
    dissimilar, signed = d[:, _DISSIMILAR], d[:, _SIGNED]
    roots = np.sqrt(np.maximum(dissimilar, 0))
    return np.concatenate([dissimilar, roots, np.maximum(signed, 0), np.maximum(-signed, 0)], 1)


def _ridge(x_ND, y_N, weight_N):
    centre, scale, level = np.average(x_ND, 0, weight_N), x_ND.std(0) + 1e-9, np.average(y_N, weights=weight_N)
    z = (x_ND - centre) / scale
    slopes = np.linalg.solve(
        z.T @ (weight_N[:, None] * z) + _RIDGE * np.eye(z.shape[1]), z.T @ (weight_N * (y_N - level))
    )
    return lambda x: (x - centre) / scale @ slopes + level
