"""What a checkpoint says about itself: everything needed to score with it, and what its scores mean."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from jaxiqa.datasets.records import Scale
from jaxiqa.errors import CheckpointError
from jaxiqa.scoring.predict import Prediction


class Score(NamedTuple):
    """What people see of one image."""

    score: float  # 0..100 over the training set's scale, higher is better, unclipped; nan if there is none
    native: float  # on the training set's scale and in its direction; nan if there is none
    se: float  # standard error of score over the crops; nan with fewer than two crops
    reason: str  # why there is no score, else ""
    explanation: tuple[float, ...]  # as of a Prediction


@dataclasses.dataclass(frozen=True)
class Card:
    """Stored with each checkpoint.

    Attributes:
      model: of create_model, {"name": ..., "variant": ..., options}.
      dtype: of the computation, "float32" or "bfloat16".
      labels: scale of the model's output, "score01" or "native".
      dataset: key of the training set.
      scale: of the training set's labels.
      crops: default test policy.
      resize: shorter side in pixels, or (height, width), that images get before they are cropped; 0: as they are.
      note: what everybody who sees a score must know; "" for most.
    """

    model: dict
    dtype: str
    labels: str
    dataset: str
    scale: Scale
    crops: str
    resize: int | Sequence[int] = 0
    note: str = ""

    def scores(self, predictions: Iterable[Prediction]) -> Iterator[Score]:
        """What people see of each prediction, in order, each as soon as the prediction is there."""
        for p in predictions:
            if self.labels == "native":
                score01, native, span = self.scale.to_score01(p.output), p.output, self.scale.hi - self.scale.lo
            else:
                score01, native, span = p.output, self.scale.to_native(p.output), 1.0
            yield Score(100 * float(score01), float(native), 100 * p.error / span, p.reason, p.explanation)

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict, path) -> "Card":
        """The card that to_dict wrote; CheckpointError, which names the checkpoint's `path`, if it is not a card."""
        try:
            return cls(**{**values, "scale": Scale(**values["scale"])})
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"checkpoint {path} has no card that this version can read ({error}); it was not written "
                "by jaxiqa.train or jaxiqa.convert of this version"
            ) from error
