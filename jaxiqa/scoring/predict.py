"""Predicts a value for each image: the mean of a model's outputs over the crops of the image."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from tqdm import tqdm

from jaxiqa.errors import DataError
from jaxiqa.inputs.transforms import normalise
from jaxiqa.models import scales_of
from jaxiqa.scoring.crops import Cropper
from jaxiqa.scoring.engine import END, stream_outputs


class Prediction(NamedTuple):
    """The output of a model for one image."""

    output: float  # mean over the crops, on the scale that the model was trained on; nan if there is no prediction
    error: float  # standard error of that mean; nan with fewer than two crops
    crops: int  # number of scored crops
    reason: str = ""  # why there is no prediction
    explanation: tuple[float, ...] = ()  # means of the explainer's values over the crops
    code: str = ""  # the code of the reason, from jaxiqa.errors.CODES


def jit_scores(model: nn.Module, explain: Callable | None = None) -> Any:  # a jitted function, which counts its shapes
    """Returns the jitted function of Predictor: (variables, uint8 crops (B, H, W, 3)) -> (B, 1 + F).

    The crops of a model with S scales are S H high, as crops.cut_crops returns them.
    """
    scales = len(scales_of(model))

    def scores(variables, crops):
        if scales > 1:
            B, height, width, _ = crops.shape
            crops = crops.reshape(B, scales, height // scales, width, 3)
        images = normalise(crops, model.mean, model.std, model.dtype)
        score_B, out = model.apply(variables, images, train=False)
        return jnp.concatenate([score_B[:, None], *([explain(out)] if explain else [])], axis=1)

    return jax.jit(scores)


class Predictor:
    """Scores images with one model and one crop policy.

    Args:
      model: from create_model.
      policy: which crops of an image are scored, e.g. "grid" (covers every pixel), "auto:25" or "random:25".
      sharding: sharding of a batch of crops over the devices.
      batch_sizes: allowed numbers of crops in a batch, each a multiple of the number of devices. Full batches have the
        largest size, the last batch has the smallest size that holds it. Each size is compiled once, whatever the sizes
        of the images.
      explain: function of the model's second output that returns F more values for each crop, (B, F); see
        scoring/explain.py.

    Attributes:
      cropper: cuts the crops of an image.
      min_side: the sides that images must have at least, in pixels.
      batch_sizes: as given, ascending.

    Raises:
      ConfigError: policy is not a policy, or does not fit the model.
    """

    def __init__(
        self,
        model: nn.Module,
        policy: str,
        sharding: NamedSharding,
        batch_sizes: Sequence[int],
        explain: Callable | None = None,
    ):
        self.cropper = Cropper.of(model, policy)
        self.min_side = self.cropper.min_side
        self._sharding, self.batch_sizes = sharding, sorted(batch_sizes)
        self._forward = jit_scores(model, explain)

    @property
    def compiled_shapes(self) -> int:
        """The number of shapes that have been compiled so far."""
        return self._forward._cache_size()

    def __call__(self, variables, images: Sequence) -> list[Prediction]:
        """Returns all predictions of stream() as a list. The first process shows a bar on a terminal."""
        hidden = True if jax.process_index() else None  # None: shown on a terminal
        stream, total = self.stream(variables, images), len(images)
        return list(tqdm(stream, "evaluating", total, leave=False, unit=" images", mininterval=1, disable=hidden))

    def stream(
        self, variables, images: Iterable, read: Callable | None = None, *, are_crops: bool = False, **how
    ) -> Iterator[Any]:
        """Yields predictions in the order of the images, each as soon as it is known.

        Args:
          variables: the model's variables.
          images: a sequence whose items are uint8 (H, W, 3) with sides of at least `min_side`, or a DataError, which
            becomes a prediction with a reason. With `read`, anything that is iterated over: arguments of `read`. The
            item engine.END is yielded as it is, and begins a new batch.
          read: function of an item that returns such an image, or raises DataError.
          are_crops: the images are the crops of an image each, uint8 (n, S crop, crop, 3), as `cropper` cuts them.
          how: `threads` and `meter` of engine.stream_outputs.
        """

        for outputs_NF in self.outputs(variables, images, read, are_crops=are_crops, **how):
            yield END if outputs_NF is END else _predict(outputs_NF)

    def outputs(
        self, variables, images: Iterable, read: Callable | None = None, *, are_crops: bool = False, **how
    ) -> Iterator[Any]:
        """Yields the outputs (N, 1 + F) for the N crops of each image, or its DataError. Arguments as for stream()."""

        def forward(crops_BHWC, _):
            return self._forward(variables, jax.device_put(crops_BHWC, self._sharding))

        def tiles_of(image):
            crops = image if are_crops else self.cropper(image)
            return crops, crops[0].shape[:2], self.batch_sizes

        return stream_outputs(images, tiles_of, forward, read, **how)


def _predict(outputs_NF: np.ndarray | DataError) -> Prediction:
    """The prediction for an image from the model's outputs for its N crops."""
    if isinstance(outputs_NF, DataError):
        return Prediction(math.nan, math.nan, 0, str(outputs_NF), code=outputs_NF.code)
    outputs_NF, crops = outputs_NF.astype(np.float64), len(outputs_NF)
    mean, *explanation = outputs_NF.mean(0).tolist()
    if not math.isfinite(mean):
        return Prediction(math.nan, math.nan, crops, "the model's output is NaN or infinite", code="non_finite")
    error = float(outputs_NF[:, 0].std(ddof=1)) / math.sqrt(crops) if crops > 1 else math.nan
    return Prediction(mean, error, crops, "", tuple(explanation))
