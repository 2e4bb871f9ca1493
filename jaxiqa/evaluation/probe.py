"""A linear probe: how well do frozen features tell classes apart? N samples, D features, C classes."""

import dataclasses
import io
from collections.abc import Sequence

import numpy as np
import scipy  # which loads its parts when they are first used
from etils import epath

from jaxiqa.evaluation.drawing import write_bytes
from jaxiqa.evaluation.report import draw_matrix

_PENALTY = 1e-2  # half of it times the squared weights (of standardised features) is added to the mean loss


@dataclasses.dataclass(frozen=True)
class Probe:
    """Softmax regression on features."""

    weight: np.ndarray  # (D, C) float32
    bias: np.ndarray  # (C,) float32
    classes: tuple[str, ...]  # C names
    families: tuple[str, ...]  # C names of the groups that the classes belong to

    def predict(self, features_ND: np.ndarray) -> np.ndarray:
        """The likeliest class of each sample, (N,) indices."""
        return (features_ND @ self.weight + self.bias).argmax(1)

    def save(self, path: epath.PathLike) -> None:
        """Write an .npz file."""
        data = io.BytesIO()
        np.savez(data, **{field: np.asarray(value) for field, value in vars(self).items()})
        write_bytes(path, data.getvalue())

    @classmethod
    def load(cls, path: epath.PathLike) -> "Probe":
        """What save() wrote. Raises ValueError or KeyError where it is something else."""
        with np.load(io.BytesIO(epath.Path(path).read_bytes()), allow_pickle=False) as file:
            names = {key: tuple(file[key].tolist()) for key in ("classes", "families")}
            return cls(file["weight"], file["bias"], **names)


def fit_probe(features_ND: np.ndarray, label_N: np.ndarray, classes: Sequence[str], families: Sequence[str]) -> Probe:
    """Fits a Probe by penalised maximum likelihood (L-BFGS), on features brought to mean 0 and deviation 1.

    Args:
      features_ND: of the pictures to learn from.
      label_N: their classes, indices.
      classes, families: names, C each.
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
    """(C, C) counts: row = what it is, column = what was predicted."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (np.asarray(label_N), np.asarray(predicted_N)), 1)
    return counts


def draw_confusion(path: epath.PathLike, counts: np.ndarray, classes: Sequence[str], title: str) -> None:
    """PNG of a confusion matrix, each row in percent of its samples."""
    share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    draw_matrix(path, share, classes, title, "predicted", "is (percent of each row)")
