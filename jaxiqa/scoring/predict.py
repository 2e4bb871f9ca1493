"""Images to predictions: the model's output for crops of each image, and its mean over them."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from jaxiqa.errors import ConfigError, DataError
from jaxiqa.inputs.transforms import normalise
from jaxiqa.scoring.crops import parse_policy, positions
from jaxiqa.scoring.engine import stream_outputs


class Prediction(NamedTuple):
    """What a model says about one image."""

    output: float  # mean over the crops, on the scale that the model was trained on; nan if there is none
    error: float  # standard error of that mean; nan with fewer than two crops
    crops: int  # how many were scored
    reason: str = ""  # why there is none
    explanation: tuple[float, ...] = ()  # the explainer's values, means over the crops


def jit_scores(model: nn.Module, explain: Callable | None = None) -> Callable:
    """(variables, uint8 crops (B, H, W, 3)) -> (B, 1 + F), what Predictor runs, compiled for each B; see there."""

    def scores(variables, images_BHWC):
        images_BHWC = normalise(images_BHWC, model.mean, model.std, model.dtype)
        score_B, out = model.apply(variables, images_BHWC, train=False)
        return jnp.concatenate([score_B[:, None], *([explain(out)] if explain else [])], axis=1)

    return jax.jit(scores)


class Predictor:
    """Scores images with one model under one test policy.

    Args:
      model: from create_model.
      policy: which crops of an image are scored, e.g. "grid" (every pixel is seen) or "random:25".
      sharding: of a batch of crops over the devices.
      batch_sizes: crops in a batch, each a multiple of the number of devices; full batches have the largest size, the
        last one the smallest that holds it. Each size is compiled once, whatever the sizes of the images.
      explain: function of the model's `out` that gives (B, F) more values for each crop (scoring/explain.py).
    """

    def __init__(
        self,
        model: nn.Module,
        policy: str,
        sharding: NamedSharding,
        batch_sizes: Sequence[int],
        explain: Callable | None = None,
    ):
        self.policy = parse_policy(policy)
        self._stride = getattr(model, "stride", 0)
        if self.policy.kind == "whole" and not self._stride:
            raise ConfigError(
                f'crops="whole": this model scores crops of {model.crop_size} pixels; take grid or random:N'
            )
        self._sharding, self._batch_sizes, self._crop = sharding, sorted(batch_sizes), model.crop_size

        self._forward = jit_scores(model, explain)

    @property
    def compiled_shapes(self) -> int:
        """How many shapes have been compiled so far."""
        return self._forward._cache_size()

    def __call__(self, variables, pictures: Sequence) -> list[Prediction]:
        """All predictions of stream()."""
        return list(self.stream(variables, pictures))

    def stream(self, variables, pictures: Sequence, read: Callable | None = None) -> Iterator[Prediction]:
        """Predictions in the order of the images, each as soon as it is known.

        Args:
          variables: of the model.
          pictures: `pictures[i]` is uint8 (H, W, 3) with sides of at least the model's crop, or a DataError, which
            becomes a prediction with a reason.
          read: makes such an image of `pictures[i]`, if that is something else; may raise DataError.
        """

        def forward(crops_BHWC, _):
            return self._forward(variables, jax.device_put(crops_BHWC, self._sharding))

        for outputs_NF in stream_outputs(pictures, self._crops, forward, read):
            yield _predict(outputs_NF)

    def _crops(self, image_HWC: np.ndarray):
        size = self._crop
        places = positions(self.policy, image_HWC, size, self._stride)
        crops = [image_HWC[top : top + size, left : left + size] for top, left in places]
        return crops, (size, size), self._batch_sizes


def _predict(outputs_NF: np.ndarray | DataError) -> Prediction:
    """The prediction from what the model returned for the N crops of an image."""
    if isinstance(outputs_NF, DataError):
        return Prediction(math.nan, math.nan, 0, str(outputs_NF))
    outputs_NF, crops = outputs_NF.astype(np.float64), len(outputs_NF)
    mean, *explanation = outputs_NF.mean(0).tolist()
    if not math.isfinite(mean):
        return Prediction(math.nan, math.nan, crops, "the model's output is not a finite number")
    error = float(outputs_NF[:, 0].std(ddof=1)) / math.sqrt(crops) if crops > 1 else math.nan
    return Prediction(mean, error, crops, "", tuple(explanation))
