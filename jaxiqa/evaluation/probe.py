"""A linear probe measures how well frozen features separate classes. N samples, D features, C classes."""

import dataclasses
import io
from collections.abc import Sequence

import numpy as np
import scipy  # loads its subpackages on first use
from etils import epath

from jaxiqa.files import write_bytes

_PENALTY = 1e-2  # the loss is the mean loss + _PENALTY / 2 * sum of squared weights (of standardised features)


@dataclasses.dataclass(frozen=True)
class Probe:
    """Softmax regression on features."""

    weight: np.ndarray  # (D, C) float32
    bias: np.ndarray  # (C,) float32
    classes: tuple[str, ...]  # C names
    families: tuple[str, ...]  # C names of the groups that the classes belong to

    def predict(self, features_ND: np.ndarray) -> np.ndarray:
        """The most likely class of each sample, (N,) indices."""
        return (features_ND @ self.weight + self.bias).argmax(1)

    def save(self, path: epath.PathLike) -> None:
        """Writes an .npz file."""
        data = io.BytesIO()
        np.savez(data, weight=self.weight, bias=self.bias, classes=self.classes, families=self.families)
        write_bytes(path, data.getvalue())

    @classmethod
    def load(cls, path: epath.PathLike) -> "Probe":
        """Reads a file of save(). Raises ValueError or KeyError if the file is something else."""
        with np.load(io.BytesIO(epath.Path(path).read_bytes()), allow_pickle=False) as file:
            names = {key: tuple(file[key].tolist()) for key in ("classes", "families")}
            return cls(file["weight"], file["bias"], **names)


def fit_probe(features_ND: np.ndarray, label_N: np.ndarray, classes: Sequence[str], families: Sequence[str]) -> Probe:
    """Fits a Probe by penalised maximum likelihood (L-BFGS), on features standardised to mean 0 and deviation 1.

    Args:
      features_ND: features of the training images.
      label_N: their classes, as indices.
      classes, families: C names each.
    """
    x = np.asarray(features_ND, np.float64)
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    x = (x - mean) / deviation
    n, d = x.shape
    c = len(classes)
    target = np.zeros((n, c))
    target[np.arange(n), label_N] = 1

    def objective(flat):
        weight, bias = flat[: d * c].reshape(d, c), flat[d * c :]
        logits = x @ weight + bias
        error = (scipy.special.softmax(logits, axis=1) - target) / n
        loss = -(scipy.special.log_softmax(logits, axis=1) * target).sum() / n + 0.5 * _PENALTY * (weight**2).sum()
        return loss, np.concatenate([(x.T @ error + _PENALTY * weight).ravel(), error.sum(0)])

    best = scipy.optimize.minimize(objective, np.zeros(d * c + c), jac=True, method="L-BFGS-B").x
    weight = best[: d * c].reshape(d, c) / deviation[:, None]
    bias = best[d * c :] - mean @ weight
    return Probe(weight.astype(np.float32), bias.astype(np.float32), tuple(classes), tuple(families))


def confusion(predicted_N: np.ndarray, label_N: np.ndarray, classes: int) -> np.ndarray:
    """(C, C) counts: row = true class, column = predicted class."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (np.asarray(label_N), np.asarray(predicted_N)), 1)
    return counts
