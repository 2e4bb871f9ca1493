"""Pictures scored by many processes, each of which scores a share of them."""

from collections.abc import Sequence

import jax

from jaxiqa.scoring.predict import Prediction, Predictor
from jaxiqa.training.distributed import gather


class _Share:
    """Every `count`-th of some pictures, from `index` on."""

    def __init__(self, pictures: Sequence, index: int, count: int):
        self._pictures, self._indices = pictures, range(index, len(pictures), count)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, i: int):
        return self._pictures[self._indices[i]]


def predict_shares(predictor: Predictor, variables, pictures: Sequence) -> list[Prediction]:
    """predictor(variables, pictures), the same on all processes, of which each has computed its own share.

    Every picture is scored once, and its score does not depend on who scores it. The processes meet at the end only, so
    that none needs as many batches as another.

    Args:
      predictor: over the devices of this process (distributed.local_mesh).
      variables: on these devices (distributed.local_copy).
      pictures: all of them, alike on all processes.
    """
    index, count = jax.process_index(), jax.process_count()
    if count == 1:
        return predictor(variables, pictures)
    shares = gather(predictor(variables, _Share(pictures, index, count)) if index < len(pictures) else [])
    return [_prediction(*shares[i % count][i // count]) for i in range(len(pictures))]


def _prediction(output, error, crops, reason, explanation) -> Prediction:
    return Prediction(output, error, crops, reason, tuple(explanation))
