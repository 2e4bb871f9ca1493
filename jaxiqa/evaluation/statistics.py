"""Confidence of correlations, and tests of two predictors: bootstrap, Wilcoxon's test, F test of residuals.

Images of one content are not independent: a predictor that misjudges a scene misjudges all of its versions. If contents
are known, the bootstrap draws whole contents, and the number of contents, not of images, sets the width of an interval.
With fewer than about 20 contents every bootstrap interval is too narrow.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy  # loads its subpackages on first use

from jaxiqa.evaluation import metrics as iqa_metrics

MIN_UNITS = 3  # contents, or images if contents are unknown
NORMAL_KURTOSIS = (2.0, 4.0)  # a sample with a kurtosis in this range counts as Gaussian
_CELLS = 2**22  # size of the largest array, resamples by images
_ROWS = 1024  # number of images that are compared with all others at a time


@dataclasses.dataclass(frozen=True)
class Interval:
    """A metric and its confidence interval."""

    value: float  # the metric over all images
    # low, high: percentiles of the metric over the resamples
    low: float
    high: float
    samples: int  # number of resamples in which the metric is defined (more than one value)


@dataclasses.dataclass(frozen=True)
class Difference(Interval):
    """The metric of A minus that of B, with its interval."""

    # two-sided p value for no difference: twice the smaller share of resamples on one side of 0. A difference of 0
    # counts on both sides, and the data count as one more resample, so that p is never 0.
    p: float


@dataclasses.dataclass(frozen=True)
class Wilcoxon:
    """Result of a signed-rank test over rounds."""

    rounds: int  # number of pairs
    median_difference: float  # of A minus B
    statistic: float  # the smaller of the rank sums of positive and of negative differences
    p: float  # two-sided, for differences that are symmetric around 0


@dataclasses.dataclass(frozen=True)
class FTest:
    """Result of a comparison of two residual variances."""

    ratio: float  # variance of A's residuals over that of B's
    p: float  # two-sided, for equal variances
    # p_a_smaller, p_a_larger: one-sided, for the alternatives that A's variance is smaller, and that it is larger
    p_a_smaller: float
    p_a_larger: float
    dof: int  # degrees of freedom of both variances
    # kurtosis_a, kurtosis_b: m4 / m2**2 of the residuals, 3 for a normal distribution
    kurtosis_a: float
    kurtosis_b: float
    gaussian: bool  # whether both are in NORMAL_KURTOSIS; if not, do not rely on the p values


def bootstrap(
    prediction,
    mos,
    groups: Sequence | None = None,
    metrics: Sequence[str] = iqa_metrics.HEADLINES,
    samples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """Percentile bootstrap intervals (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).

    Assumes that the contents (without groups: the images) are independent draws from the population that the result is
    about. The predictor is fixed: the interval does not include the variation between training runs.

    Args:
      prediction, mos: (N,) scores in any units.
      groups: (N,) the content of each image; whole groups are drawn with replacement.
      metrics: names in metrics.SCALE_FREE.
      samples, seed: number of resamples, and their seed.
      confidence: share of the resamples inside the interval, 0..1.

    Returns:
      {metric: Interval}.

    Raises:
      ValueError: fewer than MIN_UNITS groups or images, scores that are constant or not finite, unknown metric.
    """
    prediction, mos, units = _checked(groups, mos, prediction)
    drawn = _resample((prediction,), mos, units, metrics, samples, seed)
    return {
        metric: Interval(iqa_metrics.METRICS[metric].function(prediction, mos), *_percentiles(values[0], confidence))
        for metric, values in drawn.items()
    }


def bootstrap_rmse(prediction, mos, groups: Sequence, samples: int = 1000, confidence: float = 0.95) -> Interval:
    """The RMSE with its percentile bootstrap interval. Whole groups are drawn with replacement; seed 0.

    Args:
      prediction, mos: (N,) scores in the same units.
      groups: (N,) the content of each image.
      samples, confidence: as for bootstrap.
    """
    square, unit = np.square(np.subtract(prediction, mos)), np.unique(np.asarray(groups), return_inverse=True)[1]
    total, count = np.bincount(unit, square), np.bincount(unit)
    drawn = np.random.default_rng(0).integers(0, count.size, (samples, count.size))
    values = np.sqrt(total[drawn].sum(1) / count[drawn].sum(1))
    return Interval(float(np.sqrt(square.mean())), *_percentiles(values, confidence))


def paired(
    prediction_a,
    prediction_b,
    mos,
    groups: Sequence | None = None,
    metrics: Sequence[str] = iqa_metrics.HEADLINES,
    samples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Difference]:
    """Bootstrap of the difference between two predictors of the same images, A minus B.

    Both predictors get the same resamples, so the difficulty of a content cancels. Assumptions, arguments and errors
    are those of bootstrap; prediction_a and prediction_b may be in different units.

    Returns:
      {metric: Difference}.
    """
    a, mos, units = _checked(groups, mos, prediction_a)
    b, *_ = _checked(groups, mos, prediction_b)
    found = {}
    for metric, (of_a, of_b) in _resample((a, b), mos, units, metrics, samples, seed).items():
        function, differences = iqa_metrics.METRICS[metric].function, of_a - of_b
        low, high, defined = _percentiles(differences, confidence)
        sides = np.sum(differences <= 0), np.sum(differences >= 0)
        p = min(1.0, 2 * (1 + min(sides)) / (1 + defined))
        found[metric] = Difference(function(a, mos) - function(b, mos), low, high, defined, float(p))
    return found


def wilcoxon(rounds_a: Sequence[float], rounds_b: Sequence[float]) -> Wilcoxon:
    """Wilcoxon's signed-rank test of two predictors over the rounds of a protocol (F. Wilcoxon, Biometrics 1, 1945).

    p is exact for up to 50 rounds without ties. Rounds without a difference are left out (scipy's defaults). Five
    rounds cannot give a p below 0.05. The test assumes independent rounds. Rounds that split one dataset repeatedly
    share images, so p is too small (Nadeau and Bengio, Machine Learning 52, 2003): use it as a description only.

    Args:
      rounds_a, rounds_b: (R,) a metric of A and of B in the same R rounds, in the same order.

    Raises:
      ValueError: fewer than 3 rounds, two lengths, or a value that is not finite.
    """
    a, b = np.asarray(rounds_a, np.float64), np.asarray(rounds_b, np.float64)
    if a.ndim != 1 or a.shape != b.shape or a.size < 3:
        raise ValueError(f"a signed-rank test needs the same 3 or more rounds of both, not {a.size} and {b.size}")
    if not np.isfinite([a, b]).all():
        raise ValueError("a round has a value that is not finite, so the rounds cannot be compared")
    difference = a - b
    if not difference.any():
        return Wilcoxon(a.size, 0.0, 0.0, 1.0)
    result = scipy.stats.wilcoxon(difference)
    return Wilcoxon(a.size, float(np.median(difference)), float(result.statistic), float(result.pvalue))


def variance_f_test(residual_a, residual_b) -> FTest:
    """F test of the residual variances of two predictors, both after a logistic fit onto the opinion scores.

    The test of the Video Quality Experts Group and of Sheikh, Sabir and Bovik (IEEE TIP 15, 2006, section IV-C), with
    their check that the residuals are Gaussian: a kurtosis between 2 and 4. The test assumes two more things that
    `paired` does not. It assumes that the residuals of A and B are independent; on the same images they are usually
    positively correlated, so the test finds fewer differences than there are. And it assumes that images are
    independent, but versions of one content are not.

    Args:
      residual_a, residual_b: (N,) opinion score minus fitted prediction, in the same units.

    Raises:
      ValueError: fewer than 3 images, different lengths, values that are constant or not finite.
    """
    a, b = np.asarray(residual_a, np.float64), np.asarray(residual_b, np.float64)
    if a.ndim != 1 or a.shape != b.shape or a.size < MIN_UNITS:
        raise ValueError(f"an F test needs the residuals of the same 3 or more images, not {a.size} and {b.size}")
    if not (np.isfinite([a, b]).all() and np.ptp(a) > 0 and np.ptp(b) > 0):
        raise ValueError("residuals are all equal or not finite, so their variances cannot be compared")
    ratio, dof = float(a.var(ddof=1) / b.var(ddof=1)), a.size - 1
    smaller, larger = float(scipy.stats.f.cdf(ratio, dof, dof)), float(scipy.stats.f.sf(ratio, dof, dof))
    of_a, of_b = (float(scipy.stats.kurtosis(residual, fisher=False)) for residual in (a, b))
    gaussian = all(NORMAL_KURTOSIS[0] <= kurtosis <= NORMAL_KURTOSIS[1] for kurtosis in (of_a, of_b))
    return FTest(ratio, min(1.0, 2 * min(smaller, larger)), smaller, larger, dof, of_a, of_b, gaussian)


def _checked(groups: Sequence | None, mos, prediction) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted and opinion scores as arrays, and the index 0, 1, ... of the unit that each image belongs to."""
    prediction, mos = np.asarray(prediction, np.float64), np.asarray(mos, np.float64)
    if prediction.ndim != 1 or prediction.shape != mos.shape or (groups is not None and len(groups) != mos.size):
        lengths = f"{prediction.shape}, {mos.shape}" + ("" if groups is None else f" and {len(groups)} groups")
        raise ValueError(f"scores, opinion scores and groups must be lists of equal length, not {lengths}")
    units = np.arange(mos.size) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    count = len(np.unique(units))
    if count < MIN_UNITS:
        what = "images" if groups is None else "groups (contents)"
        raise ValueError(f"a bootstrap needs {MIN_UNITS} or more {what} to draw from, not {count}")
    for name, values in (("predicted scores", prediction), ("opinion scores", mos)):
        if not np.isfinite(values).all():
            raise ValueError(f"{np.sum(~np.isfinite(values))} of the {name} are not finite")
        if values.min() == values.max():
            raise ValueError(f"all {name} are {values[0]:g}, so no correlation is defined")
    return prediction, mos, units


def _percentiles(values: np.ndarray, confidence: float) -> tuple[float, float, int]:
    """Lower and upper end of the interval, and how many values are defined."""
    values = values[~np.isnan(values)]
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high), values.size


def _resample(predictions, mos, units, metrics, samples, seed) -> dict[str, list[np.ndarray]]:
    """{metric: for each prediction its (samples,) values}, nan where undefined.

    A resample is stored as the number of times that each image was drawn. Ranks are then sums over the images in order,
    and nothing is sorted again.
    """
    for metric in metrics:
        if metric not in iqa_metrics.SCALE_FREE:
            raise ValueError(f"metric {metric!r} is not one of {', '.join(iqa_metrics.SCALE_FREE)}")
    rng, count = np.random.default_rng(seed), units.max() + 1
    found: dict[str, list[list]] = {metric: [[] for _ in predictions] for metric in metrics}
    chunk = max(1, _CELLS // units.size)
    for start in range(0, samples, chunk):
        n = min(chunk, samples - start)
        drawn = rng.integers(0, count, (n, count)) + count * np.arange(n)[:, None]
        times = np.bincount(drawn.ravel(), minlength=n * count).reshape(n, count).astype(np.float64)[:, units]
        for metric in metrics:
            for values, prediction in zip(found[metric], predictions, strict=True):
                values.append(_resampled(metric, times, prediction, mos))
    return {metric: [np.concatenate(parts) for parts in lists] for metric, lists in found.items()}


def _resampled(metric: str, times: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(S,) values of a metric; a metric that is not in _RESAMPLED is computed resample by resample."""
    if metric in _RESAMPLED:
        return _RESAMPLED[metric](times, x, y)
    function, copies = iqa_metrics.METRICS[metric].function, times.astype(int)
    return np.array([function(np.repeat(x, row), np.repeat(y, row)) for row in copies], np.float64)


def _srcc(times: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _correlation(times, _ranks(times, x), _ranks(times, y), _defined(times, x, y))


def _plcc(times: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = ((v - v.mean()) / np.abs(v - v.mean()).max() for v in (x, y))  # squares stay in range
    return _correlation(times, x[None], y[None], _defined(times, x, y))


def _krcc(times: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kendall's tau-b; an image that is drawn twice is tied with itself in both scores."""
    agreement, narrow = np.zeros(len(times)), times.astype(np.float32)  # exact: integers below 2**24
    for start in range(0, x.size, _ROWS):
        rows = slice(start, start + _ROWS)
        sign = np.sign(x[rows, None] - x[None]) * np.sign(y[rows, None] - y[None])
        agreement += np.einsum("sr,sr->s", times[:, rows], narrow @ sign.T.astype(np.float32))
    total = times.sum(1)
    pairs = total * (total - 1)
    untied = [pairs - np.sum(of * (of - 1), axis=1) for of in (_per_value(times, v)[0] for v in (x, y))]
    defined = _defined(times, x, y)
    return np.where(defined, agreement / np.sqrt(np.where(defined, untied[0] * untied[1], 1)), np.nan)


_RESAMPLED = {"srcc": _srcc, "plcc": _plcc, "krcc": _krcc}


def _per_value(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How often each distinct value was drawn, (S, V) in ascending order, and each image's index (N,) into V."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    in_order = times[:, np.argsort(place, kind="stable")]
    return np.add.reduceat(in_order, np.cumsum(count) - count, axis=1), place


def _ranks(times: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(S, N) mean ranks of the values within each resample."""
    drawn, place = _per_value(times, values)
    return (np.cumsum(drawn, axis=1) - (drawn - 1) / 2)[:, place]


def _defined(times: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    """(S,) whether each column has two or more values in a resample."""
    return np.all([np.sum(_per_value(times, values)[0] > 0, axis=1) > 1 for values in columns], axis=0)


def _correlation(times: np.ndarray, x: np.ndarray, y: np.ndarray, defined: np.ndarray) -> np.ndarray:
    """(S,) Pearson's correlation of x and y, (S or 1, N), weighted by `times`."""
    total = times.sum(1, keepdims=True)
    x, y = (v - np.sum(times * v, axis=1, keepdims=True) / total for v in (x, y))
    spread = np.sum(times * x**2, axis=1) * np.sum(times * y**2, axis=1)
    spread = np.where(defined & (spread > 0), spread, np.nan)
    return np.clip(np.sum(times * x * y, axis=1) / np.sqrt(spread), -1, 1)
