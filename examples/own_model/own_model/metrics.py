"""A metric: a function of predicted scores and opinion scores, both (N,) and on the same scale."""

import numpy as np


def ccc(pred, mos) -> float:
    """Lin's concordance correlation coefficient (Biometrics 45, 1989), -1..1; NaN for two equal constants."""
    pred, mos = np.asarray(pred, np.float64), np.asarray(mos, np.float64)
    total = pred.var() + mos.var() + (pred.mean() - mos.mean()) ** 2
    return float(2 * np.mean((pred - pred.mean()) * (mos - mos.mean())) / total) if total else np.nan
