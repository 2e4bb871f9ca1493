"""The card of a checkpoint: everything that is needed to score with it, and what its scores mean."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from scipy.special import expit

from jaxiqa import plugins
from jaxiqa.datasets.records import Scale
from jaxiqa.errors import CheckpointError, ConfigError
from jaxiqa.evaluation import conformal
from jaxiqa.evaluation.calibration import apply_curve, check_curve, slope_of_curve
from jaxiqa.models import create_model
from jaxiqa.scoring.predict import Prediction

_LATER = ("package", "reference", "curve", "interval")
WORDS = ("bad", "poor", "fair", "good", "excellent")  # Absolute Category Rating of ITU-T P.910


class Score(NamedTuple):
    """The score of one image, as programs report it."""

    score: float  # 0..100 over the training set's scale, higher is better, not clipped; nan if there is none
    native: float  # on the training set's scale and in its direction; nan if there is none
    se: float  # standard error of score over the crops; nan with fewer than two crops
    reason: str  # why there is no score, else ""
    explanation: tuple[float, ...]  # as in Prediction
    code: str = ""  # the code of the reason, from jaxiqa.errors.CODES
    percentile: float = math.nan  # percent of the card's reference images with a lower score; nan without a reference
    word: str = ""  # of WORDS: the fifth of 0..100 in which the score is; "" if there is none
    # lo, hi: interval for people's mean opinion, on the scale of score; nan without one in the card
    lo: float = math.nan
    hi: float = math.nan


@dataclasses.dataclass(frozen=True)
class Card:
    """The description that is stored with each checkpoint.

    Attributes:
      model: arguments of create_model: {"name": ..., "variant": ..., options}.
      dtype: type of the computation, "float32" or "bfloat16".
      labels: scale of the model's output, "score01" or "native".
      dataset: key of the training set.
      scale: scale of the training set's labels; None if nobody rated its images, then `labels` is "score01".
      crops: default crop policy (scoring/crops.py).
      resize: shorter side in pixels, or (height, width), to which images are resized before they are cropped; 0 keeps
        their size.
      note: a warning to show with every score; "" for most models.
      package: the outside package that defines the model; "" for jaxiqa's own models.
      reference: the scores that percentiles refer to: {"of": the images in words, "quantiles": 101 scores, 0..1, below
        which 0, 1, ... 100 percent of them are}; {} for most models.
      curve: turns an output into score01, in place of `labels` (evaluation/calibration.py); {} for most models.
      interval: how far people's mean opinion is from the score (evaluation/conformal.py); {} if it is not known.
    """

    model: dict
    dtype: str
    labels: str
    dataset: str
    scale: Scale | None
    crops: str
    resize: int | Sequence[int] = 0
    note: str = ""
    package: str = ""
    reference: dict = dataclasses.field(default_factory=dict)
    curve: dict = dataclasses.field(default_factory=dict)
    interval: dict = dataclasses.field(default_factory=dict)

    def allow(self, path, allow: Iterable[str] = ()) -> None:
        """Refuses a model from outside jaxiqa that the user does not allow. Imports nothing.

        Args:
          path: the checkpoint, for the message.
          allow: module paths to allow; "mylab" also allows all modules below it. A model that an installed entry point
            registers is always allowed.

        Raises:
          CheckpointError: the model is from outside and is neither allowed nor registered.
        """
        allow = tuple(allow)
        for name in (self.model["name"], self.model.get("of", {}).get("name", "")):
            plugins.refuse_unnamed(name, plugins.MODELS, allow, self._subject(path), self.package)

    def create_model(self, path, allow: Iterable[str] = ()) -> nn.Module:
        """Creates the model.

        Args:
          path, allow: as in allow().

        Raises:
          CheckpointError: as in allow(), or this installation has no such model.
        """
        self.allow(path, allow)
        try:
            return create_model(**self.model, dtype=jnp.dtype(self.dtype))
        except ConfigError as error:
            if not self.package:
                raise CheckpointError(
                    f"checkpoint {path} needs a model that this version lacks: {error}",
                    code="unknown",
                    key=path,
                ) from error
            plugins.refuse_missing(self.model["name"], self._subject(path), self.package, error)

    def _subject(self, path) -> str:
        return f"checkpoint {path} is of the model"

    @property
    def is_known(self) -> bool:
        """Whether it is known what the scores mean. If not, a score is 100 times an output, in either direction."""
        return bool(self.dataset or self.curve or self.reference or self.scale not in (None, Scale(0.0, 1.0)))

    def scores(self, predictions: Iterable[Prediction]) -> Iterator[Score]:
        """The score of each prediction, in order, as soon as the prediction is known."""
        for p in predictions:
            score01, slope = self.score01(p.output), self._slope(p.output)
            score, se = 100 * float(score01), 100 * p.error * slope
            (lo,), (hi,) = conformal.ends(self.interval, [score], [se])
            yield Score(
                score,
                float(self.scale.to_native(score01)) if self.scale else math.nan,
                se,
                p.reason,
                p.explanation,
                p.code,
                self._percentile(score01),
                _word(score01) if self.is_known else "",
                float(lo),
                float(hi),
            )

    def score01(self, output, sigmoid: Callable = expit):
        """The score of an output of the model, 0..1 and beyond. `sigmoid` is that of the output's library."""
        if self.curve:
            return apply_curve(self.curve, output, sigmoid)
        if self.scale is None or self.labels == "score01":
            return output
        score01 = (output - self.scale.lo) / (self.scale.hi - self.scale.lo)
        return score01 if self.scale.higher_is_better else 1.0 - score01

    def _slope(self, output: float) -> float:
        """The size of the slope of score01 at an output."""
        if self.curve:
            return slope_of_curve(self.curve, output)
        return 1.0 / (self.scale.hi - self.scale.lo) if self.scale and self.labels == "native" else 1.0

    def _percentile(self, score01: float) -> float:
        if not self.reference:
            return math.nan
        return float(np.interp(score01, self.reference["quantiles"], np.arange(101)))

    def to_dict(self) -> dict:
        """Plain values for JSON. Fields that 0.1.0 does not know are left out unless they are set."""
        values = dataclasses.asdict(self)
        return {key: value for key, value in values.items() if value or key not in _LATER}

    @classmethod
    def from_dict(cls, values: dict, path) -> "Card":
        """The card that to_dict() wrote.

        Args:
          values: from the checkpoint.
          path: the checkpoint, for the message.

        Raises:
          CheckpointError: there are no values, or they are not a card.
        """
        if not values:
            raise CheckpointError(
                f"checkpoint {path} gives no scores, e.g. because it is an encoder of jaxiqa pretrain; use a "
                "checkpoint of jaxiqa train or jaxiqa convert",
                code="missing",
                key=path,
            )
        try:
            card = cls(**{**values, "scale": Scale(**values["scale"]) if values["scale"] else None})
            if not all(isinstance(text, str) for text in (card.model["name"], card.dataset, card.package)):
                raise TypeError("a name is not text")
            if card.scale is None and card.labels == "native":
                raise TypeError("native labels have no scale")
            if card.reference:
                _check_reference(**card.reference)
            if card.curve:
                check_curve(card.curve)
            if card.interval:
                conformal.check_interval(card.interval)
            return card
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"checkpoint {path} has no card that this version can read ({error}); use one that jaxiqa train or "
                "jaxiqa convert of this version wrote",
                code="format",
                key=path,
            ) from error


def _word(score01: float) -> str:
    return "" if math.isnan(score01) else WORDS[int(np.clip(score01 * len(WORDS), 0, len(WORDS) - 1))]


def _check_reference(of: str, quantiles: Sequence[float]) -> None:
    values = np.asarray(quantiles, np.float64)
    if values.shape != (101,) or not np.isfinite(values).all() or (np.diff(values) < 0).any():
        raise ValueError(f"the quantiles of {of!r} are not 101 ascending numbers")
