"""What a checkpoint says about itself: everything needed to score with it, and what its scores mean."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxiqa.datasets.records import Scale
from jaxiqa.errors import CheckpointError
from jaxiqa.scoring.predict import Prediction


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
      resize: shorter side in pixels, or (height, width), that pictures get before they are cropped; 0: as they are.
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

    def scores(self, predictions: Sequence[Prediction]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What people see of N predictions, each (N,), nan for pictures that could not be read.

        Returns:
          score: 0..100 over the training set's scale, higher is better, unclipped.
          native: on the training set's scale and in its direction.
          se: standard error of score over the crops of a picture.
        """
        output, error = (np.array([getattr(p, name) for p in predictions], np.float64) for name in ("output", "error"))
        if self.labels == "native":
            return 100 * self.scale.to_score01(output), output, 100 * error / (self.scale.hi - self.scale.lo)
        return 100 * output, self.scale.to_native(output), 100 * error

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict, path) -> "Card":
        """The card that to_dict wrote; CheckpointError, which names the checkpoint's `path`, where it is none."""
        try:
            return cls(**{**values, "scale": Scale(**values["scale"])})
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"checkpoint {path} has no card that this version can read ({error}); it was not written "
                "by jaxiqa.train or jaxiqa.convert of this version"
            ) from error
