"""How well predicted scores agree with opinion scores: SRCC, PLCC, KRCC and RMSE, all in float64.

What is undefined is nan, without a warning: a correlation of fewer than 3 pictures, of a constant, or of anything that
is not finite. A correlation of two pictures is always +-1 and says nothing.
"""

import dataclasses

import numpy as np
from scipy import optimize, special, stats

KINDS = {"logistic4": 4, "logistic5": 5}  # number of parameters
_TINY = np.finfo(np.float64).tiny


def srcc(pred, mos) -> float:
    """Spearman's rank correlation, ties sharing their mean rank: -1..1, nan where undefined.

    pred and mos are one-dimensional and equally long (ValueError otherwise), in any units.
    """
    pred, mos = _pair(pred, mos)
    return _pearson(stats.rankdata(pred), stats.rankdata(mos)) if _defined(pred, mos) else np.nan


def krcc(pred, mos) -> float:
    """Kendall's tau-b: -1..1, nan where undefined. Arguments as in srcc."""
    pred, mos = _pair(pred, mos)
    return float(stats.kendalltau(pred, mos, variant="b").statistic) if _defined(pred, mos) else np.nan


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
      converged: whether the solver reached a minimum.
    """

    kind: str
    params: tuple[float, ...]
    converged: bool

    def __call__(self, pred) -> np.ndarray:
        pred = np.asarray(pred, np.float64)
        if self.kind == "logistic4":
            b1, b2, b3, b4 = self.params
            return b2 + (b1 - b2) * special.expit((pred - b3) / b4)
        b1, b2, b3, b4, b5 = self.params
        return b1 * (special.expit(b2 * (pred - b3)) - 0.5) + b4 * pred + b5


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
    x, y = (pred - middle) / scale, (mos - mos.mean()) / _deviation(mos)
    tilt = x[:, None] - x.mean() if kind == "logistic5" else np.empty((x.size, 0))
    slope, centre, converged = _search(x, y, tilt, [0.3, 1, 3, 10, scale / deviation])

    sigmoid = special.expit(slope * (x - centre))
    columns = np.column_stack([sigmoid - sigmoid.mean(), tilt])
    height, *by_x = np.linalg.lstsq(columns, mos - mos.mean(), rcond=None)[0]
    slope, centre = slope / scale, middle + scale * centre
    if kind == "logistic4":
        floor = mos.mean() - height * sigmoid.mean()
        params = (floor + height, floor, centre, 1 / slope)
    else:
        by_x = by_x[0] / scale
        params = (height, slope, centre, by_x, mos.mean() - height * (sigmoid.mean() - 0.5) - by_x * pred.mean())
    return Fit(kind, tuple(map(float, params)), converged)


def _search(x, y, tilt, slopes) -> tuple[float, float, bool]:
    """Slope and centre of the sigmoid that, combined linearly with a constant and the columns of tilt, is nearest to y.

    The search is over p = (log slope, place of the centre), where place 0..1 spans the scores and 6 slope lengths
    beyond them on both sides: further out the curve would be an exponential for all that the scores can show.
    """
    left, right = np.percentile(x, [1, 99])

    def curve(p):
        slope = np.exp(p[0])
        centre = left - 6 / slope + p[1] * (right - left + 12 / slope)
        return slope, centre, special.expit(slope * (x - centre))

    def place(slope, centre):
        return np.clip((centre - left + 6 / slope) / (right - left + 12 / slope), 0, 1)

    def error(p):
        """Mean squared residual of the best curve with this slope and centre, and its exact gradient."""
        slope, centre, sigmoid = curve(p)
        columns = np.column_stack([sigmoid - sigmoid.mean(), tilt])  # centred, so that the constant needs no column
        basis = np.linalg.qr(columns / (np.linalg.norm(columns, axis=0) + _TINY))[0]
        residual = y - basis @ (basis.T @ y)
        height = np.linalg.lstsq(columns, y, rcond=None)[0][0]
        steepness = height * sigmoid * (1 - sigmoid)
        by_log_slope = steepness * (slope * (x - centre) - 6 + 12 * p[1])
        by_place = -steepness * (slope * (right - left) + 12)
        return np.mean(residual**2), -2 / x.size * np.array([by_log_slope @ residual, by_place @ residual])

    centres = np.percentile(x, [5, 25, 50, 75, 95])
    bounds = [(np.log(min(slopes)) - 5, np.log(max(slopes)) + 5), (0, 1)]
    found = []
    for slope in slopes:  # the best start of each slope, so that flat and step-like curves are all tried
        starts = [(np.log(slope), p) for p in (0, *place(slope, centres), 1)]
        start = min(starts, key=lambda p: error(p)[0])
        found.append(optimize.minimize(error, start, jac=True, bounds=bounds, method="L-BFGS-B"))
    best = min(found, key=lambda result: result.fun)
    return *curve(best.x)[:2], bool(best.success)


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
