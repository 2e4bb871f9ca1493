"""Work that many processes share: each does a share of it, and all of them get the whole."""

from collections.abc import Callable, Sequence

import grain
import jax

from jaxiqa.scoring.predict import Prediction, Predictor


def own_share() -> slice:
    """Of N processes, process i has every N-th item from item i on."""
    return slice(jax.process_index(), None, jax.process_count())


def predict_shares(predictor: Predictor, variables, pictures: Sequence, gather: Callable) -> list[Prediction]:
    """predictor(variables, pictures), the same on all processes, of which each has computed its own share.

    Every image is scored once, and its score does not depend on who scores it. The processes meet at the end only, so
    that none needs as many batches as another.

    Args:
      predictor: over the devices of this process (sharding.local_mesh).
      variables: on these devices (sharding.local_copy).
      pictures: all of them, alike on all processes.
      gather: gives what each process gives, in their order (runs.processes.gather).
    """
    count = jax.process_count()
    if count == 1:
        return predictor(variables, pictures)
    share = grain.MapDataset.source(pictures)[own_share()]
    shares = gather(predictor(variables, share) if len(share) else [])
    found = (Prediction(*shares[i % count][i // count]) for i in range(len(pictures)))
    return [one._replace(explanation=tuple(one.explanation)) for one in found]
