"""Agreement of predicted scores with opinion scores: SRCC, PLCC, KRCC and RMSE, all in float64.

METRICS is the only table of metrics. It sets which metrics are reported, compared and drawn, and in which order. A new
metric is a function and a row here.

An undefined metric is nan, without a warning: a correlation of fewer than 3 images, of a constant, or of values that
are not finite. A correlation of two images is always +-1 and has no meaning.
"""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
import scipy  # loads its subpackages on first use

from jaxiqa import plugins
from jaxiqa.errors import ConfigError

KINDS = {"logistic4": 4, "logistic5": 5}  # number of parameters
_TINY = np.finfo(np.float64).tiny


def srcc(pred, mos) -> float:
    """Spearman's rank correlation; ties share their mean rank: -1..1, nan if undefined.

    pred and mos are one-dimensional, of equal length (ValueError otherwise), in any units.
    """
    pred, mos = _pair(pred, mos)
    return _pearson(scipy.stats.rankdata(pred), scipy.stats.rankdata(mos)) if _defined(pred, mos) else np.nan


def krcc(pred, mos) -> float:
    """Kendall's tau-b: -1..1, nan if undefined. Arguments as in srcc."""
    pred, mos = _pair(pred, mos)
    return float(scipy.stats.kendalltau(pred, mos, variant="b").statistic) if _defined(pred, mos) else np.nan


def plcc(pred, mos, fit: str = "none") -> float:
    """Pearson's correlation: -1..1, nan if undefined. Arguments as in srcc.

    fit: "none", or "logistic4" / "logistic5" to map pred onto mos first (see fit_logistic). A fitted curve may fall, so
    the result is then also positive for predictions whose lower values are better.
    """
    pred, mos = _pair(pred, mos)
    if fit != "none":
        pred = fit_logistic(pred, mos, fit)(pred)
    return _pearson(pred, mos) if _defined(pred, mos) else np.nan


def rmse(pred, mos) -> float:
    """Root mean squared error; pred and mos share their units. nan without images, or if a value is not finite."""
    pred, mos = _pair(pred, mos)
    return float(np.sqrt(np.mean((pred - mos) ** 2))) if pred.size and np.isfinite([pred, mos]).all() else np.nan


@dataclasses.dataclass(frozen=True)
class Metric:
    """A row of the table.

    Attributes:
      function: function(pred, mos) -> float, of two (N,) arrays; nan if undefined.
      in_units: whether pred must be in the units of mos. Such a metric is reported on the dataset's native scale and
        without an interval. The other metrics must not depend on the scale, and higher is better.
      headline: whether the metric is in short tables and in the tests of rounds and of pairs of predictors.
    """

    function: Callable
    in_units: bool = False
    headline: bool = False


METRICS = {
    "srcc": Metric(srcc, headline=True),  # the first metric selects the best step
    "plcc": Metric(plcc, headline=True),
    "krcc": Metric(krcc),
    "rmse": Metric(rmse, in_units=True),
}
BEST = next(iter(METRICS))
HEADLINES = tuple(name for name, metric in METRICS.items() if metric.headline)
SCALE_FREE = tuple(name for name, metric in METRICS.items() if not metric.in_units)


def all_metrics(pred, mos) -> dict[str, float]:
    """{name: value} of all METRICS for pred and mos in the same units; PLCC is without a fit."""
    return {name: metric.function(pred, mos) for name, metric in METRICS.items()}


def extra_metrics(paths: Iterable[str]) -> dict[str, Callable]:
    """Loads metrics from outside: {name: function(pred, mos) -> float}.

    Args:
      paths: MODULE:NAME; "mylab.metrics:ccc" gets the name "ccc".

    Raises:
      ConfigError: a metric cannot be imported, is not a function, or has the name of another metric.
    """
    found: dict[str, Callable] = {}
    for path in paths:
        function, name = plugins.load_object(path, f'metric "{path}"'), path.partition(":")[2]
        if not callable(function):
            raise ConfigError(f'metric "{path}" is not a function', code="format", key="--metric")
        if name in METRICS or name in found:
            raise ConfigError(
                f'metric "{path}": a metric {name} exists already; give the function another name',
                code="conflict",
                key="--metric",
            )
        found[name] = function
    return found


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fitted curve. Calling it maps predicted scores to the scale of the opinion scores.

    Attributes:
      kind: "logistic4" or "logistic5".
      params: b1..b4 or b1..b5 of fit_logistic's formulas, in the units of the scores; nan if no fit is defined.
      converged: whether the solver's last step reduced the squared error by less than 1e-6 of it.
    """

    kind: str
    params: tuple[float, ...]
    converged: bool

    def __call__(self, pred) -> np.ndarray:
        pred = np.asarray(pred, np.float64)
        if self.kind == "logistic4":
            b1, b2, b3, b4 = self.params
            return b2 + (b1 - b2) * scipy.special.expit((pred - b3) / b4)
        b1, b2, b3, b4, b5 = self.params
        return b1 * (scipy.special.expit(b2 * (pred - b3)) - 0.5) + b4 * pred + b5


def fit_logistic(pred, mos, kind: str) -> Fit:
    """Fits a logistic curve to mos by least squares. The curves are those of the Video Quality Experts Group.

      logistic4: f(x) = b2 + (b1 - b2) / (1 + exp(-(x - b3) / b4))
      logistic5: f(x) = b1 (1/2 - 1 / (1 + exp(b2 (x - b3)))) + b4 x + b5

    The usual single start (b1 = 10, b2 = 0, ...) fails on scores of another scale. Here the scores are standardised,
    and the search covers only slope and centre, from 35 starts between flat and step-like. All other parameters,
    including the direction of the curve, are linear and solved for (variable projection: Golub and Pereyra 1973).

    Raises ValueError for another kind. The parameters are nan and converged is False if there are no more images than
    parameters, or if the scores are constant or not finite.
    """
    if kind not in KINDS:
        raise ValueError(f"fit={kind!r} is not one of {', '.join(KINDS)}")
    pred, mos = _pair(pred, mos)
    if not _defined(pred, mos) or pred.size <= KINDS[kind]:
        return Fit(kind, (np.nan,) * KINDS[kind], False)
    # Unlike the standard deviation, the quartiles ignore a few outliers.
    middle, deviation = np.median(pred), _deviation(pred)
    scale = (np.subtract(*np.percentile(pred, [75, 25])) / 1.349) or deviation
    x, y, spread = (pred - middle) / scale, mos - mos.mean(), _deviation(mos)
    line = x - x.mean() if kind == "logistic5" else np.zeros_like(x)
    slope, centre, height, by_x, converged = _search(x, y / spread, line, [0.3, 1, 3, 10, scale / deviation])

    height, by_x = height * spread, by_x * spread
    floor = mos.mean() - height * scipy.special.expit(slope * (x - centre)).mean() - by_x * x.mean()
    slope, centre, by_x = slope / scale, middle + scale * centre, by_x / scale
    params: tuple = (height, slope, centre, by_x, floor + height / 2 - by_x * middle)
    if kind == "logistic4":
        params = (floor + height, floor, centre, 1 / slope)
    return Fit(kind, tuple(map(float, params)), converged)


def _search(x, y, line, slopes) -> tuple[float, float, float, float, bool]:
    """Fits height * sigmoid + constant + factor * line to a centred y; `line` is centred, or zeros.

    The search is over p = (log slope, position of the centre). Positions 0..1 span the scores and 6 slope lengths
    beyond them on both sides; further out the curve cannot be told from an exponential.

    Returns slope, centre, height and factor of the line in the units of x and y, and whether the search converged.
    """
    left, right = np.percentile(x, [1, 99])

    def rest(v):  # the part of v that constant and line do not explain
        return _without(v - v.mean(), line)

    y_rest = rest(y)

    def curve(p):
        slope = np.exp(p[0])
        centre = left - 6 / slope + p[1] * (right - left + 12 / slope)
        sigmoid = scipy.special.expit(slope * (x - centre))
        return slope, centre, sigmoid, rest(sigmoid)

    def residual(p):  # with the best height, line and constant
        return _without(y_rest, curve(p)[-1])

    def jacobian(p):  # Kaufman's form of the variable projection derivative, whose gradient is exact
        slope, centre, sigmoid, sigmoid_rest = curve(p)
        steepness = -_factor(y_rest, sigmoid_rest) * sigmoid * (1 - sigmoid)
        by_log_slope = steepness * (slope * (x - centre) - 6 + 12 * p[1])
        by_place = -steepness * (slope * (right - left) + 12)
        return np.stack([_without(rest(by), sigmoid_rest) for by in (by_log_slope, by_place)], axis=1)

    def place(slope, centre):
        return np.clip((centre - left + 6 / slope) / (right - left + 12 / slope), 0, 1)

    centres = np.percentile(x, [5, 25, 50, 75, 95])
    bounds = [np.log(min(slopes)) - 5, 0], [np.log(max(slopes)) + 5, 1]
    found = []
    for slope in slopes:  # one start for each slope, so that both flat and step-like curves are tried
        starts = [(np.log(slope), p) for p in (0, *place(slope, centres), 1)]
        start = min(starts, key=lambda p: np.sum(residual(p) ** 2))
        found.append(scipy.optimize.least_squares(residual, start, jacobian, bounds, ftol=1e-6, max_nfev=300))
    best = min(found, key=lambda result: result.cost)
    slope, centre, sigmoid, sigmoid_rest = curve(best.x)
    height = _factor(y_rest, sigmoid_rest)
    return slope, centre, height, _factor(y - height * sigmoid, line), bool(best.success)


def _factor(v: np.ndarray, column: np.ndarray) -> float:
    """The least-squares factor of the column in v; 0 for a column of zeros."""
    return column @ v / (column @ column + _TINY)


def _without(v: np.ndarray, column: np.ndarray) -> np.ndarray:
    return v - column * _factor(v, column)


def _pair(pred, mos) -> tuple[np.ndarray, np.ndarray]:
    pred, mos = np.asarray(pred, np.float64), np.asarray(mos, np.float64)
    if pred.ndim != 1 or pred.shape != mos.shape:
        raise ValueError(f"scores must be two lists of equal length, not of shapes {pred.shape} and {mos.shape}")
    return pred, mos


def _defined(pred: np.ndarray, mos: np.ndarray) -> bool:
    return pred.size >= 3 and all(np.isfinite(x).all() and x.min() < x.max() for x in (pred, mos))


def _deviation(x: np.ndarray) -> float:
    """Standard deviation; the division keeps the squares of very large and very small scores in range."""
    largest = np.abs(x - x.mean()).max()
    return largest * np.std((x - x.mean()) / largest)


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)), -1, 1))
