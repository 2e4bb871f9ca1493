"""Chooses how scores become opinion scores of another scale: by a curve, or by a regression of features.

Every error is of contents that were left out. The error of the choice includes the choice: for each fold, the kind and
its parameters come from the other folds. Scores are 0..1, higher is better (score01). N images, F features.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import scipy  # loads its subpackages on first use

from jaxiqa.evaluation.metrics import fit_logistic, rmse
from jaxiqa.evaluation.ridge import Ridge, fit_ridge

KINDS = ("none", "line", "logistic", "ridge")  # in the order of their numbers of parameters
FOLDS = 10
FEW = 20  # contents below which ridge is not tried if there is a score: its error is then too uncertain
_MARGIN = 1.02
_INNER = 5  # folds inside of a fold, for curves


@dataclasses.dataclass(frozen=True)
class Ratings:
    """What is known about N rated images.

    Attributes:
      mos01: (N,) opinion scores.
      groups: (N,) index of the content of each image, 0, 1, ...
      features: (N, F), of which the first `free` are not penalised; None if there are none.
      output: (N,) what the model returns, on its own scale; None if it gives no scores.
      rises: whether a higher output is better.
      as_is: (N,) the model's scores; None if it gives none.
    """

    mos01: np.ndarray
    groups: np.ndarray
    features: np.ndarray | None = None
    free: int = 0
    output: np.ndarray | None = None
    rises: bool = True
    as_is: np.ndarray | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The KINDS that are tried."""
        if self.output is None:
            return ("ridge",)
        return KINDS if self.features is not None and len({*self.groups.tolist()}) >= FEW else KINDS[:-1]


@dataclasses.dataclass(frozen=True)
class Choice:
    """The chosen kind, and how well it and the others predict contents that were left out.

    Attributes:
      kind: of KINDS.
      curve: of the kinds "line" and "logistic", for `apply_curve`; else {}.
      ridge: of the kind "ridge"; else None.
      left_out: {kind: (N,) predictions}, and under "constant" those of the mean of the other folds' opinions.
      chosen: (N,) predictions of the whole procedure, with its choice.
    """

    kind: str
    curve: dict
    ridge: Ridge | None
    left_out: dict[str, np.ndarray]
    chosen: np.ndarray


def choose(ratings: Ratings) -> Choice:
    """Chooses among ratings.kinds by cross-validation over contents."""
    all_rows = np.arange(len(ratings.mos01))
    left_out = {kind: np.full(len(all_rows), np.nan) for kind in ("constant", *ratings.kinds)}
    chosen = np.full(len(all_rows), np.nan)
    for out in _folds(ratings.groups, FOLDS):
        squares, fitted = _fit_all(ratings, np.delete(all_rows, out))
        for kind, model in fitted.items():
            left_out[kind][out] = _predict(model, ratings, out)
        chosen[out] = left_out[_best(squares, np.delete(ratings.groups, out))][out]
    squares, fitted = _fit_all(ratings, all_rows)
    kind = _best(squares, ratings.groups)
    model = fitted[kind]
    left_out = {kind: values for kind, values in left_out.items() if np.isfinite(values).all()}
    curve, ridge = model if isinstance(model, dict) else {}, model if isinstance(model, Ridge) else None
    return Choice(kind, curve, ridge, left_out, chosen)


def _best(squares: Mapping[str, np.ndarray], groups: np.ndarray) -> str:
    """The kind with the fewest parameters whose error is close to the smallest; "constant" has the fewest.

    It is close if the mean squared error is at most one standard error higher (of the difference, over contents), or if
    the root is at most 2 % higher. "none" is chosen only if it is the best itself. With few contents, many kinds
    count as close, and "none" would win although it does not learn the scale of the ratings.

    Args:
      squares: {kind: (M,) squared errors of left-out contents}, with "constant".
      groups: (M,) the contents.
    """
    unit = np.unique(groups, return_inverse=True)[1]
    count = np.bincount(unit)
    by_content = {kind: np.bincount(unit, square) / count for kind, square in squares.items()}
    best = min(by_content.values(), key=np.mean)

    def is_close(kind):
        worse = by_content[kind] - best
        error = worse.std(ddof=1) / np.sqrt(len(worse))
        return worse.mean() <= (0.0 if kind == "none" else max(error, (_MARGIN**2 - 1) * best.mean()))

    return next(kind for kind in ("constant", *KINDS) if kind in squares and is_close(kind))


def _fit_all(ratings: Ratings, rows: np.ndarray) -> tuple[dict[str, np.ndarray], dict]:
    """What can be fitted to some rows: {kind: squared errors of left-out contents}, {kind: model, for _predict}."""
    y, groups = ratings.mos01[rows], ratings.groups[rows]
    fitted: dict[str, Any] = {"constant": float(y.mean())}
    left_out = {"constant": _left_out("constant", ratings, rows)}
    if "none" in ratings.kinds:
        fitted["none"], left_out["none"] = None, _given(ratings.as_is)[rows]
    for kind in ("line", "logistic"):
        # If the scores tell nothing, the fit of a curve to noise takes long.
        tried = kind == "line" or ("line" in fitted and rmse(left_out["line"], y) < rmse(left_out["constant"], y))
        if kind in ratings.kinds and tried and (curve := _fit(kind, ratings, rows)):
            fitted[kind], left_out[kind] = curve, _left_out(kind, ratings, rows)
    if "ridge" in ratings.kinds:
        fitted["ridge"] = fit_ridge(_given(ratings.features)[rows], y, groups, ratings.free)
        left_out["ridge"] = fitted["ridge"].left_out
    return {kind: np.square(values - y) for kind, values in left_out.items()}, fitted


def _given(values: np.ndarray | None) -> np.ndarray:
    assert values is not None
    return values


def _fit(kind: str, ratings: Ratings, rows: np.ndarray) -> dict | float:
    if kind == "constant":
        return float(ratings.mos01[rows].mean())
    return fit_curve(kind, _given(ratings.output)[rows], ratings.mos01[rows], ratings.rises)


def _predict(model: dict | float | Ridge | None, ratings: Ratings, rows: np.ndarray) -> np.ndarray:
    """Predictions for some rows by a curve, a constant, a regression, or None for the scores as they are."""
    if model is None:
        return _given(ratings.as_is)[rows]
    if isinstance(model, Ridge):
        return model(_given(ratings.features)[rows])
    return np.full(len(rows), model) if isinstance(model, float) else apply_curve(model, _given(ratings.output)[rows])


def _left_out(kind: str, ratings: Ratings, rows: np.ndarray) -> np.ndarray:
    """Predictions for some rows by fits to the other folds; the mean opinion if a curve has the wrong direction."""
    found = np.empty(len(rows))
    for out in _folds(ratings.groups[rows], _INNER):
        kept = np.delete(rows, out)
        found[out] = _predict(_fit(kind, ratings, kept) or _fit("constant", ratings, kept), ratings, rows[out])
    return found


def _folds(groups: np.ndarray, most: int) -> list[np.ndarray]:
    """Indices of the images of each fold. A fold holds whole contents, which are dealt out in a fixed random order."""
    names = np.unique(groups)
    order = np.random.default_rng(0).permutation(len(names))
    number = min(most, len(names))
    of = dict(zip(names[order].tolist(), (np.arange(len(names)) % number).tolist(), strict=True))
    fold = np.array([of[name] for name in groups.tolist()])
    return [np.flatnonzero(fold == k) for k in range(number)]


def fit_curve(kind: str, output, mos01, rises: bool) -> dict:
    """Fits a "line" or a "logistic" curve by least squares: {"kind", "parameters"}; {} if it has the wrong direction.

    Args:
      output, mos01: (N,).
      rises: whether a higher output is better.
    """
    output, mos01 = np.asarray(output, np.float64), np.asarray(mos01, np.float64)
    if len(output) < 3 or np.ptp(output) == 0:
        return {}
    if kind == "line":
        slope = np.cov(output, mos01, bias=True)[0, 1] / output.var()
        parameters: tuple[float, ...] = (float(slope), float(mos01.mean() - slope * output.mean()))
        gain = slope
    else:
        fit = fit_logistic(output, mos01, "logistic4")
        parameters, gain = fit.params, (fit.params[0] - fit.params[1]) * fit.params[3]
    if not np.isfinite(parameters).all() or gain * (1 if rises else -1) <= 0:
        return {}
    return {"kind": kind, "parameters": list(parameters)}


def apply_curve(curve: Mapping, output, sigmoid: Callable = scipy.special.expit):
    """The scores, 0..1 and beyond, of outputs. `sigmoid` is that of the library that `output` belongs to."""
    if curve["kind"] == "line":
        slope, constant = curve["parameters"]
        return constant + slope * output
    top, bottom, centre, width = curve["parameters"]
    return bottom + (top - bottom) * sigmoid((output - centre) / width)


def slope_of_curve(curve: Mapping, output: float) -> float:
    """The size of the slope at an output."""
    if curve["kind"] == "line":
        return abs(curve["parameters"][0])
    top, bottom, centre, width = curve["parameters"]
    share = float(scipy.special.expit((output - centre) / width))
    return abs((top - bottom) / width) * share * (1 - share)


def check_curve(curve: Mapping) -> None:
    """Raises KeyError, TypeError or ValueError if it is not a curve of fit_curve."""
    numbers = {"line": 2, "logistic": 4}[curve["kind"]]
    parameters = [float(value) for value in curve["parameters"]]
    if len(parameters) != numbers or not np.isfinite(parameters).all() or (numbers == 4 and parameters[3] == 0):
        raise ValueError(f"a curve of the kind {curve['kind']} has {numbers} finite parameters")
