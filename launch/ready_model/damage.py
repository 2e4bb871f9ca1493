"""Opinion scores for distorted crops that nobody rated.

A crop with one of KADID-10k's 25 types at one of its five levels gets the published mean score of this cell. For other
distortions, the damage of each crop is measured against its source, and a ridge regression from the mean damage of a
cell to the mean score of the cell is fitted. What it says of all crops with a distortion is smoothed as a function of
the parameters of the distortion (the factor of reduction, the quality of the codec, the width of the blur, the strength
of the noise): a crop gets the value of this function.

So the score does not depend on the content. Trials in which each crop was scored by its own damage followed opinions
worse: the models then took detail for quality.
"""

import collections

import jax
import jax.numpy as jnp
import numpy as np

from jaxiqa.datasets.readers.sample import KADID_MEANS

CLEAN = 4.7  # score of an undistorted crop, a little above the best cell (4.61)
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


def scores(damage_ND: np.ndarray, kinds: list[tuple], image_N: np.ndarray) -> np.ndarray:
    """Score of each crop on KADID-10k's scale, 1 to 4.7, float64 (N,).

    Args:
      damage_ND: from `damage`.
      kinds: what was done to each crop: () nothing, ("cell", type, level), ("codec", name or "", log factor, log
        quality), ("blur", log width), ("noise", "colour" or "grey", log strength), ("two",) two distortions.
      image_N: number of the image that each crop was cut from.
    """
    x = _design(damage_ND)
    rows = collections.defaultdict(list)
    for i, kind in enumerate(kinds):
        rows[_group(kind)].append(i)
    means = {key: KADID_MEANS[key[1] - 1][key[2] - 1] for key in rows if key[:1] == ("cell",)}
    if () in rows:
        means[()] = CLEAN
    cells = np.array([x[rows[key]].mean(0) for key in means])
    weights = np.array([1.0 if key else _WEIGHT_OF_CLEAN for key in means])
    suggested = _ridge(cells, np.array([*means.values()]), weights)(x)
    found = np.empty(len(x))
    for key, here in rows.items():
        if key in means:
            found[here] = means[key]
        elif key == ("two",):
            _, which = np.unique(image_N[here], return_inverse=True)
            found[here] = (np.bincount(which, suggested[here]) / np.bincount(which))[which]
        else:
            terms = _terms(key, np.array([[v for v in kinds[i] if not isinstance(v, str)] for i in here]))
            found[here] = terms @ np.linalg.lstsq(terms, suggested[here], rcond=None)[0]
    return np.clip(found, 1.0, CLEAN)


def _group(kind: tuple) -> tuple:
    """What shares a cell or a function with a kind."""
    if kind[:1] in ((), ("cell",)):
        return kind
    return kind[:2] if kind[0] in ("codec", "noise") else kind[:1]


def _terms(key: tuple, parameters: np.ndarray) -> np.ndarray:
    """Terms of the polynomial in the parameters of a distortion: (N, terms)."""
    first, one = parameters[:, 0], np.ones(len(parameters))
    if key[0] == "blur":
        return np.stack([one, first, first**2, first**3], 1)
    terms = [one, first, first**2]
    if key[0] == "codec" and key[1]:
        quality = parameters[:, 1]
        terms += [quality, quality**2, first * quality, first**2 * quality]
    return np.stack(terms, 1)


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
