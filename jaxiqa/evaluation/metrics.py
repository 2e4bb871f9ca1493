"""How well predicted scores agree with opinion scores: SRCC, PLCC, KRCC and RMSE, all in float64.

What is undefined is nan, without a warning: a correlation of fewer than 3 pictures, of a constant, or of anything that
is not finite. A correlation of two pictures is always +-1 and says nothing.
"""

import dataclasses

import numpy as np
import scipy  # which loads its parts when they are first used

KINDS = {"logistic4": 4, "logistic5": 5}  # number of parameters
_TINY = np.finfo(np.float64).tiny


def srcc(pred, mos) -> float:
    """Spearman's rank correlation, ties sharing their mean rank: -1..1, nan where undefined.

    pred and mos are one-dimensional and equally long (ValueError otherwise), in any units.
    """
    pred, mos = _pair(pred, mos)
    return _pearson(scipy.stats.rankdata(pred), scipy.stats.rankdata(mos)) if _defined(pred, mos) else np.nan


def krcc(pred, mos) -> float:
    """Kendall's tau-b: -1..1, nan where undefined. Arguments as in srcc."""
    pred, mos = _pair(pred, mos)
    return float(scipy.stats.kendalltau(pred, mos, variant="b").statistic) if _defined(pred, mos) else np.nan


def plcc(pred, mos, fit: str = "none") -> float:
    """Pearson's correlation of the scores themselves: -1..1, nan where undefined. Arguments as in srcc.

    fit: "none", or "logistic4" / "logistic5" to map pred onto mos first (see fit_logistic). A fitted curve may fall, so
    the result is then positive for a metric where lower is better, too.
    """
    pred, mos = _pair(pred, mos)
    if fit != "none":
        pred = fit_logistic(pred, mos, fit)(pred)
    return _pearson(pred, mos) if _defined(pred, mos) else np.nan


def rmse(pred, mos) -> float:
    """Root mean squared error in the units of mos, which pred must share; nan without pictures or where not finite."""
    pred, mos = _pair(pred, mos)
    return float(np.sqrt(np.mean((pred - mos) ** 2))) if pred.size and np.isfinite([pred, mos]).all() else np.nan


def all_metrics(pred, mos) -> dict[str, float]:
    """srcc, plcc (without a fit), krcc and rmse of pred and mos in the same units."""
    return {"srcc": srcc(pred, mos), "plcc": plcc(pred, mos), "krcc": krcc(pred, mos), "rmse": rmse(pred, mos)}


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fitted curve; calling it maps predicted scores to the scale of the opinion scores.

    Attributes:
      kind: "logistic4" or "logistic5".
      params: b1..b4 or b1..b5 of fit_logistic's formulas, in the units of the scores; nan where nothing was fitted.
      converged: whether the solver's last step gained less than 1e-6 of the squared error.
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
    """The curve nearest to mos in least squares, as the video quality experts group (VQEG) defines them.

      logistic4: f(x) = b2 + (b1 - b2) / (1 + exp(-(x - b3) / b4))
      logistic5: f(x) = b1 (1/2 - 1 / (1 + exp(b2 (x - b3)))) + b4 x + b5

    The usual single start (b1 = 10, b2 = 0, ...) fails on scores of another scale. Here the scores are standardised and
    only slope and centre are searched for, from 35 starts between flat and step-like; everything else, the direction of
    the curve included, is linear and solved for (variable projection: Golub and Pereyra 1973).

    Raises ValueError for another kind. With no more pictures than parameters, a constant, or values that are not
    finite, the parameters are nan and converged is False.
    """
    if kind not in KINDS:
        raise ValueError(f"fit={kind!r} is none of {', '.join(KINDS)}")
    pred, mos = _pair(pred, mos)
    if not _defined(pred, mos) or pred.size <= KINDS[kind]:
        return Fit(kind, (np.nan,) * KINDS[kind], False)
    # The quartiles, unlike the standard deviation, ignore a few wild scores.
    middle, deviation = np.median(pred), _deviation(pred)
    scale = (np.subtract(*np.percentile(pred, [75, 25])) / 1.349) or deviation
    x, y, spread = (pred - middle) / scale, mos - mos.mean(), _deviation(mos)
    line = x - x.mean() if kind == "logistic5" else np.zeros_like(x)
    slope, centre, height, by_x, converged = _search(x, y / spread, line, [0.3, 1, 3, 10, scale / deviation])

    height, by_x = height * spread, by_x * spread
    floor = mos.mean() - height * scipy.special.expit(slope * (x - centre)).mean() - by_x * x.mean()
    slope, centre, by_x = slope / scale, middle + scale * centre, by_x / scale
    if kind == "logistic4":
        params = (floor + height, floor, centre, 1 / slope)
    else:
        params = (height, slope, centre, by_x, floor + height / 2 - by_x * middle)
    return Fit(kind, tuple(map(float, params)), converged)


def _search(x, y, line, slopes) -> tuple[float, float, float, float, bool]:
    """The sigmoid that, in linear combination with a constant and a centred line (or zeros), is nearest to a centred y.

    The search is over p = (log slope, place of the centre), where place 0..1 spans the scores and 6 slope lengths
    beyond them on both sides: further out the curve would be an exponential for all that the scores can show.

    Returns slope, centre, height and factor of the line in the units of x and y, and whether the search converged.
    """
    left, right = np.percentile(x, [1, 99])

    def rest(v):  # what constant and line leave over
        return _without(v - v.mean(), line)

    y_rest = rest(y)

    def curve(p):
        slope = np.exp(p[0])
        centre = left - 6 / slope + p[1] * (right - left + 12 / slope)
        sigmoid = scipy.special.expit(slope * (x - centre))
        return slope, centre, sigmoid, rest(sigmoid)

    def residual(p):  # of the best height, line and constant
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
    for slope in slopes:  # the best start of each slope, so that flat and step-like curves are all tried
        starts = [(np.log(slope), p) for p in (0, *place(slope, centres), 1)]
        start = min(starts, key=lambda p: np.sum(residual(p) ** 2))
        found.append(scipy.optimize.least_squares(residual, start, jacobian, bounds, ftol=1e-6, max_nfev=300))
    best = min(found, key=lambda result: result.cost)
    slope, centre, sigmoid, sigmoid_rest = curve(best.x)
    height = _factor(y_rest, sigmoid_rest)
    return slope, centre, height, _factor(y - height * sigmoid, line), bool(best.success)


def _factor(v: np.ndarray, column: np.ndarray) -> float:
    """How much of the column is in v: 0 for a column of zeros."""
    return column @ v / (column @ column + _TINY)


def _without(v: np.ndarray, column: np.ndarray) -> np.ndarray:
    return v - column * _factor(v, column)


def _pair(pred, mos) -> tuple[np.ndarray, np.ndarray]:
    pred, mos = np.asarray(pred, np.float64), np.asarray(mos, np.float64)
    if pred.ndim != 1 or pred.shape != mos.shape:
        raise ValueError(f"scores must be two lists of one length, not of shapes {pred.shape} and {mos.shape}")
    return pred, mos


def _defined(pred: np.ndarray, mos: np.ndarray) -> bool:
    return pred.size >= 3 and all(np.isfinite(x).all() and x.min() < x.max() for x in (pred, mos))


def _deviation(x: np.ndarray) -> float:
    """Standard deviation; the division keeps squares of very large and very small scores in range."""
    largest = np.abs(x - x.mean()).max()
    return largest * np.std((x - x.mean()) / largest)


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)), -1, 1))
