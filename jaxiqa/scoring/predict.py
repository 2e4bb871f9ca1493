"""Pictures to model outputs: crops in batches of a few fixed shapes through one compiled function."""

import collections
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import flax.linen as nn
import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from jaxiqa.errors import ConfigError, DataError
from jaxiqa.inputs.transforms import normalise
from jaxiqa.scoring.crops import parse_policy, positions


class Prediction(NamedTuple):
    """What a model says about one picture."""

    output: float  # mean over the crops, on the scale the model was trained on; nan where the picture cannot be read
    error: float  # standard error of that mean; nan with fewer than two crops
    crops: int  # how many were scored
    reason: str = ""  # why there is none
    explanation: tuple[float, ...] = ()  # the explainer's values, means over the crops


class _Waiting:
    """A picture whose crops are on their way."""

    def __init__(self, crops: int, reason: str = ""):
        self.crops, self.reason, self.outputs = crops, reason, []

    def prediction(self) -> Prediction:
        if not self.crops:
            return Prediction(math.nan, math.nan, 0, self.reason)
        outputs = np.asarray(self.outputs, np.float64)
        mean, *explanation = outputs.mean(0).tolist()
        if not math.isfinite(mean):
            return Prediction(math.nan, math.nan, self.crops, "the model's output is not a finite number")
        error = outputs[:, 0].std(ddof=1) / math.sqrt(self.crops) if self.crops > 1 else math.nan
        return Prediction(mean, float(error), self.crops, "", tuple(explanation))


def jit_scores(model: nn.Module, explain: Callable | None = None) -> Callable:
    """(variables, uint8 crops (B, H, W, 3)) -> (B, 1 + F), what Predictor runs, compiled for each B; see there."""

    def scores(variables, images_BHWC):
        images_BHWC = normalise(images_BHWC, model.mean, model.std, model.dtype)
        score_B, out = model.apply(variables, images_BHWC, train=False)
        return jnp.concatenate([score_B[:, None], *([explain(out)] if explain else [])], axis=1)

    return jax.jit(scores)


class Predictor:
    """Scores pictures with one model under one test policy.

    Args:
      model: from create_model.
      policy: which crops of a picture are scored, e.g. "grid" (every pixel is seen) or "random:25".
      sharding: of a batch of crops over the devices.
      batch_sizes: crops in a batch, each a multiple of the number of devices; full batches have the largest size, the
        last one the smallest that holds it. Each size is compiled once, whatever the sizes of the pictures.
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

    def stream(self, variables, pictures: Sequence) -> Iterator[Prediction]:
        """Predictions in the order of the pictures, each as soon as it is known.

        Args:
          variables: of the model.
          pictures: `pictures[i]` is uint8 (H, W, 3) with sides of at least the model's crop, or a DataError, which
            becomes a prediction with a reason.
        """
        waiting: collections.deque[_Waiting] = collections.deque()
        in_flight: collections.deque = collections.deque()

        def collect():
            owners, outputs = in_flight.popleft()
            for owner, output in zip(owners, jax.device_get(outputs), strict=False):  # the padding has no owner
                owner.outputs.append(output)

        for owners, crops in self._batches(pictures, waiting):
            in_flight.append((owners, self._forward(variables, jax.device_put(crops, self._sharding))))
            if len(in_flight) > 2:
                collect()
            while waiting and len(waiting[0].outputs) == waiting[0].crops:
                yield waiting.popleft().prediction()
        while in_flight:
            collect()
        while waiting:
            yield waiting.popleft().prediction()

    def _batches(self, pictures: Sequence, waiting: collections.deque):
        """(the picture of each crop, uint8 crops padded with zeros to a batch); appends each picture to `waiting`."""
        size, largest = self._crop, self._batch_sizes[-1]
        owners, crops = [], np.zeros((largest, size, size, 3), np.uint8)
        options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)  # a picture may take half a gigabyte
        images = iter(grain.MapDataset.source(pictures).to_iter_dataset(options))
        try:
            for image in images:
                if isinstance(image, DataError):
                    waiting.append(_Waiting(0, str(image)))
                    continue
                places = positions(self.policy, image, size, self._stride)
                waiting.append(owner := _Waiting(len(places)))
                for top, left in places:
                    crops[len(owners)] = image[top : top + size, left : left + size]
                    owners.append(owner)
                    if len(owners) == largest:
                        yield owners, crops
                        owners, crops = [], np.zeros_like(crops)
        finally:
            images.close()
        if owners:
            yield owners, crops[: next(n for n in self._batch_sizes if n >= len(owners))]
