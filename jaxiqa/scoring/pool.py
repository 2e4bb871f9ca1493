"""The scores that a scorer, a checkpoint or a file of scores, gives to a pool of images."""

from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from jaxiqa.errors import DataError
from jaxiqa.evaluation.results import Predictions, find_rows
from jaxiqa.scoring.scorer import Scorer


def score_pool(name: str, scorer: str | Predictions, paths: Sequence[str]) -> tuple[np.ndarray, dict]:
    """Scores of a pool; a checkpoint shows its progress.

    Args:
      name: of the scorer, for people.
      scorer: a checkpoint's folder, or predictions that were read from a file.
      paths: of N images.

    Returns:
      (N,) scores, higher is better, nan for images that could not be scored; and what they are from, for a report.

    Raises:
      CheckpointError: the checkpoint cannot be used.
      DataError: the file lacks an image, or not a single one could be scored.
    """
    if isinstance(scorer, Predictions):
        score = scorer.score[find_rows(scorer.paths, paths, scorer.file, "the pool")]
        source, reason = {"file": scorer.file}, "the file has no score for them"
    else:
        model = Scorer(scorer)
        found, card = model.scores(paths), model.card
        found = list(tqdm(found, f"scoring by {name}", len(paths), unit=" pictures", mininterval=1, disable=None))
        score = np.array([one.score for one in found])
        source = {"checkpoint": str(model.workdir), "step": model.step, "model": card.model, "trained_on": card.dataset}
        source |= {"crops": card.crops, "resize": card.resize, "note": card.note}
        reason = found[0].reason
    if np.isnan(score).all():
        raise DataError(f"{name}: not one of the {len(paths):,} pictures of the pool has a score; the first: {reason}")
    return score, source
