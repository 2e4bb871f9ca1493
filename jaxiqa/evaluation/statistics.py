"""How sure a correlation is, and whether two predictors differ: bootstrap, Wilcoxon's test, F test of residuals.

Pictures of one content are not independent: a predictor that misjudges a scene misjudges all of its versions. Where
contents are known, whole contents are drawn, and the number of contents, not of pictures, decides how wide an interval
is. With fewer than about 20 of them every bootstrap interval is too narrow.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import stats

from jaxiqa.evaluation import metrics as iqa_metrics

METRICS = ("srcc", "plcc", "krcc")
MIN_UNITS = 3  # contents, or pictures where there are none
NORMAL_KURTOSIS = (2.0, 4.0)  # a sample with a kurtosis between these passes for Gaussian
_CELLS = 2**22  # of the largest array, resamples by pictures
_ROWS = 1024  # pictures compared with all others at a time


@dataclasses.dataclass(frozen=True)
class Interval:
    """A metric and its confidence interval."""

    value: float  # the metric of all pictures
    # low, high: percentiles of the metric over the resamples
    low: float
    high: float
    samples: int  # resamples behind them; those in which the metric is undefined (one value only) do not count


@dataclasses.dataclass(frozen=True)
class Difference(Interval):
    """The metric of A minus that of B, with its interval."""

    # two-sided, for no difference: twice the smaller share of resamples on one side of 0 (0 itself counts on both
    # sides, and the data as one more resample, so that p is never 0)
    p: float


@dataclasses.dataclass(frozen=True)
class Wilcoxon:
    """Signed-rank test of rounds."""

    rounds: int  # how many pairs
    median_difference: float  # of A minus B
    statistic: float  # the smaller one of the sums of ranks of positive and of negative differences
    p: float  # two-sided, for differences that are symmetric around 0


@dataclasses.dataclass(frozen=True)
class FTest:
    """Comparison of two residual variances."""

    ratio: float  # variance of A's residuals over that of B's
    p: float  # two-sided, for equal variances
    # p_a_smaller, p_a_larger: one-sided, for the alternatives that A's variance is the smaller, the larger one
    p_a_smaller: float
    p_a_larger: float
    dof: int  # degrees of freedom of both variances
    # kurtosis_a, kurtosis_b: m4 / m2**2 of the residuals, 3 for a normal distribution
    kurtosis_a: float
    kurtosis_b: float
    gaussian: bool  # whether both lie in NORMAL_KURTOSIS; without it the p values mean little


def bootstrap(
    prediction,
    mos,
    groups: Sequence | None = None,
    metrics: Sequence[str] = ("srcc", "plcc"),
    samples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """Percentile bootstrap intervals (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).

    Assumes that the contents (without groups: the pictures) are independent draws from what the result is to hold for.
    The predictor is held fixed: how much another training run would differ is not in the interval.

    Args:
      prediction, mos: (N,) scores in any units.
      groups: (N,) what each picture shows; whole groups are drawn with replacement.
      metrics: of METRICS.
      samples, seed: of the draws.
      confidence: share of the resamples inside, 0..1.

    Returns:
      {metric: Interval}.

    Raises:
      ValueError: fewer than MIN_UNITS groups or pictures, scores that are constant or not finite, unknown metric.
    """
    prediction, mos, units = _checked(groups, mos, prediction)
    drawn = _resample((prediction,), mos, units, metrics, samples, seed)
    return {
        metric: Interval(getattr(iqa_metrics, metric)(prediction, mos), *_percentiles(values[0], confidence))
        for metric, values in drawn.items()
    }


def paired(
    prediction_a,
    prediction_b,
    mos,
    groups: Sequence | None = None,
    metrics: Sequence[str] = ("srcc", "plcc"),
    samples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Difference]:
    """Bootstrap of the difference between two predictors of the same pictures, A minus B.

    Both see the same resamples, so what is hard about a content is hard for both and cancels. Assumptions, arguments
    and errors are those of bootstrap; prediction_a and prediction_b may be in different units.

    Returns:
      {metric: Difference}.
    """
    a, mos, units = _checked(groups, mos, prediction_a)
    b, *_ = _checked(groups, mos, prediction_b)
    found = {}
    for metric, (of_a, of_b) in _resample((a, b), mos, units, metrics, samples, seed).items():
        function, differences = getattr(iqa_metrics, metric), of_a - of_b
        low, high, defined = _percentiles(differences, confidence)
        sides = np.sum(differences <= 0), np.sum(differences >= 0)
        p = min(1.0, 2 * (1 + min(sides)) / (1 + defined))
        found[metric] = Difference(function(a, mos) - function(b, mos), low, high, defined, float(p))
    return found


def wilcoxon(rounds_a: Sequence[float], rounds_b: Sequence[float]) -> Wilcoxon:
    """Wilcoxon's signed-rank test of two predictors over the rounds of a protocol (F. Wilcoxon, Biometrics 1, 1945).

    The p is exact for up to 50 rounds without ties; rounds without a difference are left out (scipy's defaults). Five
    rounds cannot give a p below 0.05. It assumes independent rounds; rounds that split one dataset again and again
    share pictures, so p is too small (Nadeau and Bengio, Machine Learning 52, 2003): take it as descriptive.

    Args:
      rounds_a, rounds_b: (R,) a metric of A and of B in the same R rounds, in the same order.

    Raises:
      ValueError: fewer than 3 rounds, another number in the two, or a value that is not finite.
    """
    a, b = np.asarray(rounds_a, np.float64), np.asarray(rounds_b, np.float64)
    if a.ndim != 1 or a.shape != b.shape or a.size < 3:
        raise ValueError(f"a signed-rank test needs the same 3 or more rounds of both, not {a.size} and {b.size}")
    if not np.isfinite([a, b]).all():
        raise ValueError("a round has no finite value, so the rounds cannot be compared")
    difference = a - b
    if not difference.any():
        return Wilcoxon(a.size, 0.0, 0.0, 1.0)
    result = stats.wilcoxon(difference)
    return Wilcoxon(a.size, float(np.median(difference)), float(result.statistic), float(result.pvalue))


def variance_f_test(residual_a, residual_b) -> FTest:
    """F test of the residual variances of two predictors, both after a logistic fit onto the opinion scores.

    The test of the video quality experts group and of Sheikh, Sabir and Bovik (IEEE TIP 15, 2006, section IV-C), with
    their check that the residuals pass for Gaussian: a kurtosis between 2 and 4. It also assumes that the residuals of
    A and B are independent; those of the same pictures are usually positively correlated, so that it finds fewer
    differences than there are, and that pictures are independent, which versions of one content are not. `paired`
    assumes neither.

    Args:
      residual_a, residual_b: (N,) opinion score minus fitted prediction, in the same units.

    Raises:
      ValueError: fewer than 3 pictures, different lengths, values that are constant or not finite.
    """
    a, b = np.asarray(residual_a, np.float64), np.asarray(residual_b, np.float64)
    if a.ndim != 1 or a.shape != b.shape or a.size < MIN_UNITS:
        raise ValueError(f"an F test needs the residuals of the same 3 or more pictures, not {a.size} and {b.size}")
    if not (np.isfinite([a, b]).all() and np.ptp(a) > 0 and np.ptp(b) > 0):
        raise ValueError("residuals are all equal or not finite, so their variances cannot be compared")
    ratio, dof = float(a.var(ddof=1) / b.var(ddof=1)), a.size - 1
    smaller, larger = float(stats.f.cdf(ratio, dof, dof)), float(stats.f.sf(ratio, dof, dof))
    kurtosis = [float(stats.kurtosis(residual, fisher=False)) for residual in (a, b)]
    gaussian = all(NORMAL_KURTOSIS[0] <= k <= NORMAL_KURTOSIS[1] for k in kurtosis)
    return FTest(ratio, min(1.0, 2 * min(smaller, larger)), smaller, larger, dof, *kurtosis, gaussian)


def _checked(groups: Sequence | None, mos, prediction) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prediction and opinion scores as arrays, and the number 0, 1, ... of each picture's unit."""
    prediction, mos = np.asarray(prediction, np.float64), np.asarray(mos, np.float64)
    if prediction.ndim != 1 or prediction.shape != mos.shape or (groups is not None and len(groups) != mos.size):
        lengths = f"{prediction.shape}, {mos.shape}" + ("" if groups is None else f" and {len(groups)} groups")
        raise ValueError(f"scores, opinion scores and groups must be lists of one length, not {lengths}")
    units = np.arange(mos.size) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    count = len(np.unique(units))
    if count < MIN_UNITS:
        what = "pictures" if groups is None else "groups (contents)"
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

    A resample is a whole number for each picture, how often it was drawn, so that ranks are sums over the pictures in
    their order and nothing is sorted twice.
    """
    for metric in metrics:
        if metric not in METRICS:
            raise ValueError(f"metric {metric!r} is none of {', '.join(METRICS)}")
    rng, count = np.random.default_rng(seed), units.max() + 1
    found = {metric: [[] for _ in predictions] for metric in metrics}
    chunk = max(1, _CELLS // units.size)
    for start in range(0, samples, chunk):
        n = min(chunk, samples - start)
        drawn = rng.integers(0, count, (n, count)) + count * np.arange(n)[:, None]
        times = np.bincount(drawn.ravel(), minlength=n * count).reshape(n, count).astype(np.float64)[:, units]
        for metric in metrics:
            for values, prediction in zip(found[metric], predictions, strict=True):
                values.append(_RESAMPLED[metric](times, prediction, mos))
    return {metric: [np.concatenate(parts) for parts in lists] for metric, lists in found.items()}


def _srcc(times: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _correlation(times, _ranks(times, x), _ranks(times, y), _defined(times, x, y))


def _plcc(times: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = ((v - v.mean()) / np.abs(v - v.mean()).max() for v in (x, y))  # squares stay in range
    return _correlation(times, x[None], y[None], _defined(times, x, y))


def _krcc(times: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kendall's tau-b; a picture that was drawn twice is tied with itself in both scores."""
    agreement, narrow = np.zeros(len(times)), times.astype(np.float32)  # of whole numbers below 2**24: exact
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
    """How often each distinct value was drawn, (S, V) in ascending order, and the place (N,) of each value among V."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    in_order = times[:, np.argsort(place, kind="stable")]
    return np.add.reduceat(in_order, np.cumsum(count) - count, axis=1), place


def _ranks(times: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(S, N) mean ranks of the values within each resample."""
    drawn, place = _per_value(times, values)
    return (np.cumsum(drawn, axis=1) - (drawn - 1) / 2)[:, place]


def _defined(times: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    """(S,) whether each column has two values or more in a resample."""
    return np.all([np.sum(_per_value(times, values)[0] > 0, axis=1) > 1 for values in columns], axis=0)


def _correlation(times: np.ndarray, x: np.ndarray, y: np.ndarray, defined: np.ndarray) -> np.ndarray:
    """(S,) Pearson's correlation of x and y, (S or 1, N), counted `times`."""
    total = times.sum(1, keepdims=True)
    x, y = (v - np.sum(times * v, axis=1, keepdims=True) / total for v in (x, y))
    spread = np.sum(times * x**2, axis=1) * np.sum(times * y**2, axis=1)
    spread = np.where(defined & (spread > 0), spread, np.nan)
    return np.clip(np.sum(times * x * y, axis=1) / np.sqrt(spread), -1, 1)
