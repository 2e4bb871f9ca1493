"""Scores images with several processes. Each computes a part, and all of them receive the whole result."""

from collections.abc import Callable, Sequence

import grain
import jax

from jaxiqa.scoring.predict import Prediction, Predictor


def own_share() -> slice:
    """Returns the share of this process. Of N processes, process i has every N-th item, from item i on."""
    return slice(jax.process_index(), None, jax.process_count())


def predict_shares(predictor: Predictor, variables, images: Sequence, gather: Callable) -> list[Prediction]:
    """Returns predictor(variables, images) on all processes; each process computes its own share.

    Every image is scored once, and its score does not depend on the process. The processes wait for each other only at
    the end, so they may have different numbers of batches.

    Args:
      predictor: a Predictor on the devices of this process (sharding.local_mesh).
      variables: the model's variables on these devices (sharding.local_copy).
      images: all images, the same on all processes.
      gather: returns the values that the processes pass to it, in the order of the processes (runs.processes.gather).
    """
    count = jax.process_count()
    if count == 1:
        return predictor(variables, images)
    share = grain.MapDataset.source(images)[own_share()]
    shares = gather(predictor(variables, share) if len(share) else [])
    found = (Prediction(*shares[i % count][i // count]) for i in range(len(images)))
    return [one._replace(explanation=tuple(one.explanation)) for one in found]
