"""Intervals for the opinion score of an image: split-conformal prediction, clustered by content.

The residuals are those of images that the model was not fitted to: they show how wrong the model is. Versions of one
content are not independent, so they do not count one by one: a draw takes one image of each content. If a new content
is like these K contents, its residual is at most the k-th smallest of the draw with probability k / (K + 1) (Vovk,
Gammerman and Shafer, Algorithmic Learning in a Random World, 2005). Between two of these probabilities the bound is
interpolated. It is averaged over draws (the repeated subsampling of Dunn, Wasserman and Ramdas, JASA 118, 2023,
averages over draws too).

So, on average over contents, the share of covered images equals the level, if new images are like those of the
residuals. For images of another kind it is lower.
"""

from collections.abc import Mapping, Sequence

import numpy as np

LEVEL = 0.9
MIN_CONTENTS = 9  # with fewer, 90 % lies beyond the largest residual of a draw
_DRAWS = 1000
_WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0)  # of the crop spread
_MOST = 4.0  # spreads that are larger, in medians, count as this


def fit_interval(residual, groups: Sequence, spread, of: str) -> dict:
    """Fits an interval to residuals.

    The half width of an image grows with its spread over the crops. How much it grows is chosen so that the mean width
    over these images is smallest.

    Args:
      residual: (N,) opinion score minus predicted score, both 0..100.
      groups: (N,) content of each image.
      spread: (N,) standard error of each predicted score over the crops; nan if unknown.
      of: the images, in words.

    Returns:
      {"level", "half_width" (0..100, at spread 0), "spread_weight", "median_spread", "contents", "images", "of"}; {}
      with fewer than MIN_CONTENTS contents or a value that is not finite.
    """
    size, spread = np.abs(np.asarray(residual, np.float64)), np.asarray(spread, np.float64)
    names, unit = np.unique(np.asarray(groups), return_inverse=True)
    if not enough(groups) or not np.isfinite(size).all():
        return {}
    known = spread[np.isfinite(spread)]
    median = float(np.median(known)) if known.size else 0.0
    found = []
    for weight in _WEIGHTS if median > 0 else _WEIGHTS[:1]:
        factor = _factor(spread, weight, median)
        half = _bound(size / factor, unit)
        found.append((half * _by_content(factor, unit), weight, half))
    _, weight, half = min(found)
    return {
        "level": LEVEL,
        "half_width": half,
        "spread_weight": weight,
        "median_spread": median,
        "contents": len(names),
        "images": int(size.size),
        "of": of,
    }


def enough(groups: Sequence) -> bool:
    """Whether images of these contents can give an interval."""
    return len({*groups}) >= MIN_CONTENTS


def ends(interval: Mapping, score, spread) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of the interval of each score, 0..100; nan without an interval.

    The ends are clipped to the rating scale, which holds all opinions.

    Args:
      interval: of fit_interval.
      score, spread: predicted scores, 0..100, and their standard errors over the crops; nan if unknown.
    """
    score, spread = np.asarray(score, np.float64), np.asarray(spread, np.float64)
    if not interval:
        return np.full(score.shape, np.nan), np.full(score.shape, np.nan)
    half = interval["half_width"] * _factor(spread, interval["spread_weight"], interval["median_spread"])
    return np.clip(score - half, 0.0, 100.0), np.clip(score + half, 0.0, 100.0)


def check_interval(interval: Mapping) -> None:
    """Raises KeyError, TypeError or ValueError if it is not an interval of fit_interval."""
    numbers = [float(interval[name]) for name in ("level", "half_width", "spread_weight", "median_spread")]
    if not (np.isfinite(numbers).all() and min(numbers) >= 0):
        raise ValueError("the interval has a value that is not a number of 0 or more")


def coverage(lo, hi, mos100, groups: Sequence) -> dict[str, float]:
    """{"coverage", "width"}: mean over contents of the share of covered opinions, and of hi - lo; {} without ends."""
    lo, hi, mos100 = (np.asarray(x, np.float64) for x in (lo, hi, mos100))
    if not np.isfinite([lo, hi]).all() or not lo.size:
        return {}
    unit = np.unique(np.asarray(groups), return_inverse=True)[1]
    inside = (lo <= mos100) & (mos100 <= hi)
    return {"coverage": _by_content(inside.astype(np.float64), unit), "width": _by_content(hi - lo, unit)}


def _factor(spread: np.ndarray, weight: float, median: float) -> np.ndarray:
    if not weight or not median:
        return np.ones_like(spread)
    relative = np.nan_to_num(spread / median, nan=1.0)
    return 1.0 + weight * np.clip(relative, 0.0, _MOST)


def _by_content(values: np.ndarray, unit: np.ndarray) -> float:
    return float((np.bincount(unit, values) / np.bincount(unit)).mean())


def _bound(size: np.ndarray, unit: np.ndarray) -> float:
    """The size that the residual of a new content exceeds with probability 1 - LEVEL."""
    order = np.argsort(unit, kind="stable")
    counts = np.bincount(unit)
    first = np.cumsum(counts) - counts
    picks = np.random.default_rng(0).random((_DRAWS, counts.size))
    drawn = np.sort(size[order][first + (picks * counts).astype(np.int64)], axis=1)
    place = LEVEL * (counts.size + 1) - 1  # from 0
    below = int(np.floor(place + 1e-9))
    above = min(below + 1, counts.size - 1)
    bounds = drawn[:, below] + (place - below) * (drawn[:, above] - drawn[:, below])
    return float(bounds.mean())
