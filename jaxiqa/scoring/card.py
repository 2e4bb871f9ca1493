"""The card of a checkpoint: everything that is needed to score with it, and what its scores mean."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from jaxiqa import plugins
from jaxiqa.datasets.records import Scale
from jaxiqa.errors import CheckpointError, ConfigError
from jaxiqa.models import create_model
from jaxiqa.scoring.predict import Prediction


class Score(NamedTuple):
    """The score of one image, as programs report it."""

    score: float  # 0..100 over the training set's scale, higher is better, not clipped; nan if there is none
    native: float  # on the training set's scale and in its direction; nan if there is none
    se: float  # standard error of score over the crops; nan with fewer than two crops
    reason: str  # why there is no score, else ""
    explanation: tuple[float, ...]  # as in Prediction
    code: str = ""  # the code of the reason, from jaxiqa.errors.CODES


@dataclasses.dataclass(frozen=True)
class Card:
    """The description that is stored with each checkpoint.

    Attributes:
      model: arguments of create_model: {"name": ..., "variant": ..., options}.
      dtype: type of the computation, "float32" or "bfloat16".
      labels: scale of the model's output, "score01" or "native".
      dataset: key of the training set.
      scale: scale of the training set's labels.
      crops: default crop policy (scoring/crops.py).
      resize: shorter side in pixels, or (height, width), to which images are resized before they are cropped; 0 keeps
        their size.
      note: a warning to show with every score; "" for most models.
      package: the outside package that defines the model; "" for jaxiqa's own models.
    """

    model: dict
    dtype: str
    labels: str
    dataset: str
    scale: Scale
    crops: str
    resize: int | Sequence[int] = 0
    note: str = ""
    package: str = ""

    def allow(self, path, allow: Iterable[str] = ()) -> None:
        """Refuses a model from outside jaxiqa that the user does not allow. Imports nothing.

        Args:
          path: the checkpoint, for the message.
          allow: module paths to allow; "mylab" also allows all modules below it. A model that an installed entry point
            registers is always allowed.

        Raises:
          CheckpointError: the model is from outside and is neither allowed nor registered.
        """
        plugins.refuse_unnamed(self.model["name"], plugins.MODELS, allow, self._subject(path), self.package)

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

    def scores(self, predictions: Iterable[Prediction]) -> Iterator[Score]:
        """The score of each prediction, in order, as soon as the prediction is known."""
        for p in predictions:
            if self.labels == "native":
                score01, native, span = self.scale.to_score01(p.output), p.output, self.scale.hi - self.scale.lo
            else:
                score01, native, span = p.output, self.scale.to_native(p.output), 1.0
            yield Score(100 * float(score01), float(native), 100 * p.error / span, p.reason, p.explanation, p.code)

    def to_dict(self) -> dict:
        """Plain values for JSON; `package` only if it is set."""
        values = dataclasses.asdict(self)
        return values if self.package else {key: value for key, value in values.items() if key != "package"}

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
                f"checkpoint {path} gives no scores, e.g. because it is an encoder of jaxiqa pretrain; use one "
                "of jaxiqa train or jaxiqa convert",
                code="missing",
                key=path,
            )
        try:
            card = cls(**{**values, "scale": Scale(**values["scale"])})
            if not all(isinstance(text, str) for text in (card.model["name"], card.dataset, card.package)):
                raise TypeError("a name is not text")
            return card
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"checkpoint {path} has no card that this version can read ({error}); use one that jaxiqa train or "
                "jaxiqa convert of this version wrote",
                code="format",
                key=path,
            ) from error
