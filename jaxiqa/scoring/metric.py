"""Scores in Python: create_metric(...)(image)."""

from etils import epath

from jaxiqa.errors import ConfigError, DataError
from jaxiqa.models import find_model
from jaxiqa.scoring.scorer import Scorer


class Metric:
    """Called with an image, returns its score; made by create_metric.

    Attributes:
      score_range: (0.0, 100.0), the scores of the training set's best and worst label; a score may lie outside.
      lower_better: False.
      metric_mode: "NR", no reference image is needed.
      scorer: the checkpoint behind it (its card says what the scores mean).
    """

    score_range = (0.0, 100.0)
    lower_better = False
    metric_mode = "NR"

    def __init__(self, scorer: Scorer):
        self.scorer = scorer

    def __call__(self, pictures) -> float | list[float]:
        """Score of one image, or a list of scores, 0..100, higher is better.

        Args:
          pictures: a path, the bytes of a file, a Pillow image, an array (H, W, 3) or (H, W) of uint8 or of floats in
            0..1 (RGB, channels last); or a list or tuple of any of these, or an array (N, H, W, 3), for a list.

        Raises:
          DataError: an image that cannot be read; of a list, the first of them, with its number.
        """
        many = isinstance(pictures, list | tuple) or getattr(pictures, "ndim", 0) == 4
        scores = []
        for i, found in enumerate(self.scorer.scores(pictures if many else [pictures])):
            if found.reason:
                raise DataError(f"picture {i} of {len(pictures)}: {found.reason}" if many else found.reason)
            scores.append(found.score)
        return scores if many else scores[0]


def create_metric(
    name: str = "", checkpoint: epath.PathLike = "", *, step: int | None = None, crops: str | None = None
) -> Metric:
    """A trained model as a function of images.

      metric = jaxiqa.create_metric("glintiqa", checkpoint="workdir/mine")
      metric("photo.jpg")  # 0..100, higher is better

    Args:
      name: the model; may stay empty, and is otherwise checked against the checkpoint.
      checkpoint: the workdir of a training run (its best step, else its latest), a converted checkpoint, or one step's
        folder in it.
      step: this step instead.
      crops: test policy, "grid" (every pixel is seen) or "random:N"; default: the checkpoint's own.

    Raises:
      ConfigError: no checkpoint, or one of another model (no weights come with the package).
      CheckpointError: it cannot be read.
    """
    if name:
        find_model(name)
    if not checkpoint:
        raise ConfigError(f'create_metric("{name}"): no weights come with the package; give checkpoint="WORKDIR"')
    scorer = Scorer(checkpoint, step, crops)
    if name and name != scorer.card.model["name"]:
        raise ConfigError(f"{scorer.workdir} holds {scorer.card.model['name']}, not {name}")
    return Metric(scorer)
