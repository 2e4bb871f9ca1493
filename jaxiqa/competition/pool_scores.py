"""The scores of a pool of images by a scorer: a checkpoint or a file of scores."""

from collections.abc import Iterable, Sequence

import numpy as np
from tqdm import tqdm

from jaxiqa.errors import DataError
from jaxiqa.evaluation.result_files import Predictions, find_rows
from jaxiqa.scoring.scorer import Scorer


def score_pool(
    name: str, scorer: str | Predictions, paths: Sequence[str], allow: Iterable[str] = ()
) -> tuple[np.ndarray, dict]:
    """Scores a pool with a checkpoint, with a progress bar, or looks its scores up in a file.

    Args:
      name: name of the scorer, for messages.
      scorer: the folder of a checkpoint, or predictions that were read from a file.
      paths: paths of N images.
      allow: packages outside jaxiqa from which a checkpoint may import its model.

    Returns:
      (N,) scores, higher is better, nan for images that could not be scored; and facts about the scorer, for a report.

    Raises:
      CheckpointError: the checkpoint cannot be used.
      DataError: the file lacks an image, or no image could be scored.
    """
    if isinstance(scorer, Predictions):
        score = scorer.score[find_rows(scorer.paths, paths, scorer.file, "the pool")]
        source, reason = {"file": scorer.file}, "the file has no score for them"
    else:
        model = Scorer(scorer, allow=allow)
        found, card = model.scores(paths), model.card
        found = list(tqdm(found, f"scoring by {name}", len(paths), unit=" images", mininterval=1, disable=None))
        score = np.array([one.score for one in found])
        source = {"checkpoint": str(model.workdir), "step": model.step, "model": card.model, "trained_on": card.dataset}
        source |= {"crops": card.crops, "resize": card.resize, "note": card.note}
        reason = found[0].reason
    if np.isnan(score).all():
        raise DataError(
            f"{name}: none of the {len(paths):,} images of the pool has a score; reason for the first: {reason}",
            code="empty",
            key=name,
        )
    return score, source
