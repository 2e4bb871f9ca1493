"""Pictures to scores: crops in batches of one shape through one compiled function."""

import collections

import flax.linen as nn
import grain
import jax
import numpy as np
from jax.sharding import NamedSharding

from jaxiqa.errors import ConfigError
from jaxiqa.inputs.pictures import Pictures
from jaxiqa.inputs.transforms import normalise
from jaxiqa.scoring.crops import parse_policy, positions


class Predictor:
    """Scores pictures with one model under one test policy.

    Args:
      model: from create_model.
      policy: which crops of a picture are scored, e.g. "grid" (every pixel is seen) or "random:25".
      sharding: of a batch of crops over the devices.
      batch_size: crops in a batch; a multiple of the number of devices.
    """

    def __init__(self, model: nn.Module, policy: str, sharding: NamedSharding, batch_size: int = 64):
        self._policy = parse_policy(policy)
        if self._policy.kind == "whole":
            raise ConfigError(
                f'crops="whole": this model scores crops of {model.crop_size} pixels; take grid or random:N'
            )
        self._sharding, self._batch_size, self._crop = sharding, batch_size, model.crop_size

        def forward(variables, images_BHWC):
            score_B, _ = model.apply(variables, normalise(images_BHWC, model.mean, model.std, model.dtype), train=False)
            return score_B

        self._forward = jax.jit(forward)

    def __call__(self, variables, pictures: Pictures) -> np.ndarray:
        """Scores (N,) fp64 on the scale the model was trained on, each the mean over the picture's crops."""
        sums, counts = np.zeros(len(pictures)), np.zeros(len(pictures))
        in_flight = collections.deque()

        def collect():
            owners, scores = in_flight.popleft()
            scores = np.asarray(jax.device_get(scores), np.float64)[: len(owners)]
            np.add.at(sums, owners, scores)
            np.add.at(counts, owners, 1)

        for owners, crops in self._batches(pictures):
            in_flight.append((owners, self._forward(variables, jax.device_put(crops, self._sharding))))
            if len(in_flight) > 2:
                collect()
        while in_flight:
            collect()
        return sums / counts

    def _batches(self, pictures: Pictures):
        """(index of the picture of each crop, uint8 crops padded with zeros to a full batch)."""
        size = self._crop
        owners, crops = [], np.zeros((self._batch_size, size, size, 3), np.uint8)
        images = iter(grain.MapDataset.source(pictures).to_iter_dataset(grain.ReadOptions(num_threads=2)))
        for i, image in enumerate(images):
            for top, left in positions(self._policy, *image.shape[:2], size, pictures.records[i].id):
                crops[len(owners)] = image[top : top + size, left : left + size]
                owners.append(i)
                if len(owners) == self._batch_size:
                    yield owners, crops
                    owners, crops = [], np.zeros_like(crops)
        images.close()
        if owners:
            yield owners, crops
