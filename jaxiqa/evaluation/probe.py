"""A linear probe measures how well frozen features separate classes. N samples, D features, C classes."""

import dataclasses
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy  # loads its subpackages on first use
from etils import epath

from jaxiqa.files import write_bytes

_PENALTY = 1e-2


@dataclasses.dataclass(frozen=True)
class Probe:
    """Softmax regression on features, and a linear regression of the severity.

    Attributes:
      weight, bias: (D, C) and (C,) float32, of the softmax regression.
      classes: C names.
      families: C names of the groups that the classes belong to.
      severity: (D + 1,) float32, weights and constant of the severity, 0 (pristine) to 5 (strongest level); None if it
        was not fitted.
      taps: keys of a model's second output that are its features; () if the model declares the only one.
      about: what it was fitted on and how good it is (scoring/reasons.py); plain values.
    """

    weight: np.ndarray
    bias: np.ndarray
    classes: tuple[str, ...]
    families: tuple[str, ...]
    severity: np.ndarray | None = None
    taps: tuple[str, ...] = ()
    about: Mapping = dataclasses.field(default_factory=dict)

    @property
    def groups(self) -> tuple[str, ...]:
        """The F different families, in the order of their first classes."""
        return tuple(dict.fromkeys(self.families))

    @property
    def member(self) -> np.ndarray:
        """(C, F) float32: 1 where a class belongs to a family."""
        return np.array([[family == name for name in self.groups] for family in self.families], np.float32)

    def predict(self, features_ND: np.ndarray) -> np.ndarray:
        """The most likely class of each sample, (N,) indices."""
        return (features_ND @ self.weight + self.bias).argmax(1)

    def probabilities(self, features_ND: np.ndarray) -> np.ndarray:
        """(N, C)."""
        return scipy.special.softmax(features_ND @ self.weight + self.bias, axis=1)

    def save(self, path: epath.PathLike) -> None:
        """Writes an .npz file with the SHA-256 of what it holds."""
        arrays: dict[str, Any] = {"weight": self.weight, "bias": self.bias}
        arrays |= {"classes": np.array(self.classes), "families": np.array(self.families)}
        if self.severity is not None:
            arrays["severity"] = self.severity
        arrays["about"] = np.array(json.dumps({"taps": self.taps, **self.about}))
        data = io.BytesIO()
        np.savez(data, **arrays, sha256=np.array(_digest(arrays)))
        write_bytes(path, data.getvalue())

    @classmethod
    def load(cls, path: epath.PathLike) -> "Probe":
        """Reads a file of save(). Raises ValueError or KeyError if the file is something else or damaged.

        Files of 0.1.0 have no digest.
        """
        data = epath.Path(path).read_bytes()
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(error) from error
        if "sha256" in arrays and str(arrays.pop("sha256")) != _digest(arrays):
            raise ValueError("its digest differs")
        classes, families = (tuple(map(str, arrays[key].tolist())) for key in ("classes", "families"))
        about = json.loads(str(arrays["about"])) if "about" in arrays else {"taps": ()}
        taps = tuple(about.pop("taps"))
        found = cls(arrays["weight"], arrays["bias"], classes, families, arrays.get("severity"), taps)
        features, count = found.weight.shape
        if found.bias.size != count or {len(classes), len(families)} != {count}:
            raise ValueError(f"{found.bias.size} constants, {len(classes)} names for {count} classes")
        if found.severity is not None and found.severity.shape != (features + 1,):
            raise ValueError(f"a severity of {found.severity.shape} for {features} features")
        if not all(np.isfinite(v).all() for v in (found.weight, found.bias, found.severity) if v is not None):
            raise ValueError("a weight is NaN or infinite")
        return dataclasses.replace(found, about=about)


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of names, types, shapes and values, in hexadecimal."""
    found = hashlib.sha256()
    for name, value in sorted(arrays.items()):
        found.update(f"{name} {value.dtype} {value.shape} ".encode() + value.tobytes())
    return found.hexdigest()


def fit_probe(
    features_ND: np.ndarray,
    label_N: np.ndarray,
    classes: Sequence[str],
    families: Sequence[str],
    penalty: float = _PENALTY,
) -> Probe:
    """Fits a Probe by penalised maximum likelihood (L-BFGS), on features standardised to mean 0 and deviation 1.

    Args:
      features_ND: features of the training images.
      label_N: their classes, as indices.
      classes, families: C names each.
      penalty: the loss is the mean loss + penalty / 2 * sum of squared weights (of standardised features).
    """
    x = np.asarray(features_ND, np.float64)
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    x = (x - mean) / deviation
    axes = None
    if x.shape[1] > x.shape[0]:  # the best weights are sums of samples, so as many axes as samples are enough
        x, size, axes = np.linalg.svd(x, full_matrices=False)
        x = x * size
    n, d = x.shape
    c = len(classes)
    target = np.zeros((n, c))
    target[np.arange(n), label_N] = 1

    def objective(flat):
        weight, bias = flat[: d * c].reshape(d, c), flat[d * c :]
        logits = x @ weight + bias
        error = (scipy.special.softmax(logits, axis=1) - target) / n
        loss = -(scipy.special.log_softmax(logits, axis=1) * target).sum() / n + 0.5 * penalty * (weight**2).sum()
        return loss, np.concatenate([(x.T @ error + penalty * weight).ravel(), error.sum(0)])

    best = scipy.optimize.minimize(objective, np.zeros(d * c + c), jac=True, method="L-BFGS-B").x
    weight = best[: d * c].reshape(d, c)
    weight = (weight if axes is None else axes.T @ weight) / deviation[:, None]
    bias = best[d * c :] - mean @ weight
    return Probe(weight.astype(np.float32), bias.astype(np.float32), tuple(classes), tuple(families))


def confusion(predicted_N: np.ndarray, label_N: np.ndarray, classes: int) -> np.ndarray:
    """(C, C) counts: row = true class, column = predicted class."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (np.asarray(label_N), np.asarray(predicted_N)), 1)
    return counts


def accuracy(counts: np.ndarray) -> dict[str, float]:
    """{"accuracy": share of the samples, "balanced_accuracy": mean of the classes that occur} of a confusion matrix."""
    occur = counts.sum(1) > 0
    shares = counts.diagonal()[occur] / counts.sum(1)[occur]
    return {"accuracy": float(counts.trace() / counts.sum()), "balanced_accuracy": float(shares.mean())}
