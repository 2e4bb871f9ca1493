"""Ridge regression with the penalty that predicts left-out contents best. N images, F features, R rank.

A decomposition of the features serves all penalties. For each penalty, the predictions for a left-out content are
computed from the fit to all images (the leave-one-out formula of least squares, for groups).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy  # loads its subpackages on first use

PENALTIES = np.logspace(-4, 3, 22)  # of features whose squares sum to about 1
_FLOOR = 0.1  # of the median of the standard deviations
_FREE = 1e2  # factor of features that are not penalised: their penalty is 1e4 times smaller


@dataclasses.dataclass(frozen=True)
class Ridge:
    """A fitted regression: features @ weight + bias."""

    weight: np.ndarray  # (F,)
    bias: float
    penalty: float
    left_out: np.ndarray  # (N,) predictions for the training images, each with its content left out

    def __call__(self, features_NF) -> np.ndarray:
        return np.asarray(features_NF, np.float64) @ self.weight + self.bias


def fit_ridge(features_NF, target_N, groups: Sequence, free: int = 0) -> Ridge:
    """Fits a ridge regression.

    Args:
      features_NF: features; they are standardised here. Those that hardly vary are not enlarged to the size of others.
      target_N: what is predicted.
      groups: (N,) the content of each image.
      free: number of leading features that are not penalised; neither is the bias.
    """
    x, y = np.asarray(features_NF, np.float64), np.asarray(target_N, np.float64)
    mean, deviation = x.mean(0), x.std(0)
    # If a feature is constant except in a few of these images, its standardised value in other images could be huge.
    gain = 1.0 / np.maximum(deviation, _FLOOR * np.median(deviation[free:]) + 1e-12)
    gain[free:] /= np.sqrt(max(x.shape[1] - free, 1))
    gain[:free] *= _FREE
    z = np.concatenate([(x - mean) * gain, np.full((len(y), 1), _FREE)], axis=1)
    middle = y.mean()  # the bias is free, so this changes only rounding
    U_NR, square_R = _decompose(z)
    unit = np.unique(np.asarray(groups), return_inverse=True)[1]
    members = [np.flatnonzero(unit == k) for k in range(unit.max() + 1)]
    found = [(_left_out(U_NR, square_R, y - middle, members, penalty), penalty) for penalty in PENALTIES]
    left_out, penalty = min(found, key=lambda one: np.sum((one[0] - y + middle) ** 2))
    weight = z.T @ (U_NR @ ((U_NR.T @ (y - middle)) / (square_R + penalty)))
    bias = middle + _FREE * weight[-1] - (mean * gain) @ weight[:-1]
    return Ridge(weight[:-1] * gain, float(bias), float(penalty), left_out + middle)


def _decompose(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left singular vectors (N, R) and squared singular values, by the smaller of the two Gram matrices."""
    if z.shape[0] <= z.shape[1]:
        square, U = scipy.linalg.eigh(z @ z.T)
        return U, np.maximum(square, 0.0)
    square, V = scipy.linalg.eigh(z.T @ z)
    kept = square > square[-1] * 1e-12
    return z @ V[:, kept] / np.sqrt(square[kept]), square[kept]


def _left_out(U_NR, square_R, y, members, penalty) -> np.ndarray:
    """(N,) predictions, each with the images of its content left out."""
    shrunk_R = square_R / (square_R + penalty)
    residual, found = y - U_NR @ (shrunk_R * (U_NR.T @ y)), np.empty_like(y)
    for rows in members:
        hat = (U_NR[rows] * shrunk_R) @ U_NR[rows].T
        found[rows] = y[rows] - np.linalg.solve(np.eye(len(rows)) - hat, residual[rows])
    return found
